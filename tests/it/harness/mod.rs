//! What the tests share: hermetic repositories, the real agent programs and their scripted endpoint.
