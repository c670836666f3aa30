use super::*;
use crate::agent::sanitise_text;
use proptest::prelude::*;

fn redactor() -> Redactor {
    Redactor::new([("DEPLOY_KEY", "correct horse/battery+staple"), ("SHORT", "true")])
}

fn redact(text: &str) -> String {
    let (redacted, count) = redactor().redact(text);
    assert_eq!(count > 0, redacted != text, "{text}");
    redacted.into_owned()
}

/// Assembled here, so that no scanner of this repository takes the tests for a leak.
fn planted() -> Vec<(&'static str, String)> {
    let body = |n: usize| "a1B2c3D4e5F6g7H8i9J0".chars().cycle().take(n).collect::<String>();
    let upper = |n: usize| body(n).to_ascii_uppercase();
    vec![
        ("anthropic", format!("sk-ant-{}", format_args!("api03-{}", body(40)))),
        ("api-key", format!("sk-{}", format_args!("proj-{}", body(40)))),
        ("api-key", format!("sk-{}", body(48))),
        ("stripe", format!("sk_{}_{}", "live", body(24))),
        ("github", format!("gh{}_{}", "p", body(36))),
        ("github", format!("gh{}_{}", "o", body(36))),
        ("github", format!("github_{}_{}", "pat", body(50))),
        ("gitlab", format!("gl{}-{}", "pat", body(20))),
        ("aws", format!("AK{}{}", "IA", upper(16))),
        ("aws", format!("AS{}{}", "IA", upper(16))),
        ("slack", format!("xox{}-{}", "b", body(24))),
        ("slack", format!("xox{}-{}", "p", body(24))),
        ("google", format!("AI{}{}", "za", body(35))),
        (
            "jwt",
            format!("ey{}.ey{}.{}", format_args!("J{}", body(20)), format_args!("J{}", body(30)), body(40)),
        ),
        ("npm", format!("npm{}{}", "_", body(36))),
        ("pypi", format!("pypi{}{}", "-", body(60))),
        ("hugging-face", format!("hf{}{}", "_", body(34))),
        (
            "private-key",
            format!(
                "-----BEGIN {} KEY-----\n{}\n-----END {} KEY-----",
                "RSA PRIVATE",
                body(64),
                "RSA PRIVATE"
            ),
        ),
    ]
}

#[test]
fn tokens_are_known_by_their_shape_wherever_they_stand() {
    for (family, secret) in planted() {
        for (before, after) in
            [("", ""), ("key: ", " end"), ("\"", "\""), ("(", ")"), ("\n", "\n"), ("x=", "&y")]
        {
            let text = format!("{before}{secret}{after}");
            assert_eq!(redact(&text), format!("{before}[redacted:{family}]{after}"), "{text}");
        }
    }
}

/// The ways in which a text may be written.
fn written(text: &str) -> [(&'static str, String); 6] {
    let each = |write: &dyn Fn(u8) -> String| text.bytes().map(write).collect::<String>();
    [
        ("plain", text.to_owned()),
        ("escaped", each(&|byte| format!("\\u{byte:04x}"))),
        ("percent", each(&|byte| format!("%{byte:02X}"))),
        ("hex", each(&|byte| format!("{byte:02x}"))),
        ("base64", base64_core(format!("{text}\n\n\n").as_bytes(), 0, *b"+/")),
        ("base64url", base64_core(format!("x {text} y\n\n").as_bytes(), 0, *b"-_")),
    ]
}

#[test]
fn every_family_is_found_however_it_is_written() {
    let mut seed = 7_usize;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let redactor = Redactor::new(Vec::<(String, String)>::new());
    let names: std::collections::BTreeSet<_> =
        Redactor::examples(&mut random).iter().map(|one| one.0).collect();
    assert!(names.len() >= 200, "{}", names.len());
    for (family, secret, text) in (0..5).flat_map(|_| Redactor::examples(&mut random)) {
        assert!(secret.len() >= 12 && text.contains(&secret), "{family}: {text}");
        for (way, all) in written(&text) {
            let (redacted, count) = redactor.redact(&all);
            assert!(count > 0, "{family}, {way}: {all}");
            for (way, part) in written(&secret) {
                assert!(!redacted.contains(&part), "{family}, {way}: {redacted}");
            }
            assert_eq!(redactor.redact(&redacted).1, 0, "{family}, {way}: {redacted}");
        }
    }
}

/// What nobody sees within a text; the first few are ASCII.
const HIDDEN: [&str; 16] = [
    "\u{1b}[m\u{1b}[K",
    "\u{1b}[1;31m",
    "\0",
    "\u{8}",
    "\u{1b}]0;a title\u{7}",
    "\u{1b}]8;;http://x\u{1b}\\",
    "\u{1b}(B",
    "\u{7f}",
    "\u{c}",
    "\u{200b}",
    "\u{202e}",
    "\u{ad}",
    "\u{feff}",
    "\u{9b}1m",
    "\u{fe00}",
    "\u{e0041}",
];

#[test]
fn every_family_is_found_with_something_hidden_inside() {
    let mut seed = 11_usize;
    let mut random = move |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let redactor = Redactor::new([("PASSPHRASE", "correct horse battery")]);
    let mut examples = Redactor::examples(&mut random);
    examples.push(("PASSPHRASE", "correct horse battery".to_owned(), "correct horse battery".to_owned()));
    for (number, (family, secret, text)) in examples.into_iter().enumerate() {
        let at = 1 + random(secret.len() - 1);
        for turn in 0..4 {
            let (which, also) = ((number + turn * 4) % HIDDEN.len(), HIDDEN[random(HIDDEN.len())]);
            let apart = format!("{also}{}{}{}{also}", &secret[..at], HIDDEN[which], &secret[at..]);
            let apart = text.replace(&secret, &apart);
            let json = serde_json::to_string(&apart).unwrap();
            let json = [apart.clone(), json.clone(), serde_json::to_string(&json).unwrap()];
            // As the standard library of Python writes JSON.
            let units: Vec<String> = apart.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let percent: Vec<String> = apart.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let mut all = vec![units.concat(), percent.concat()];
            all.extend(json);
            if apart.is_ascii() && !apart.contains('\u{c}') {
                all.extend(written(&apart).into_iter().skip(3).map(|(_, text)| text));
            }
            for all in all {
                let (redacted, count) = redactor.redact(&all);
                assert!(count > 0, "{family}: {all:?}");
                let shown = sanitise_text(&redacted);
                assert!(!shown.contains(&secret), "{family}: {all:?} {shown:?}");
                assert!(!redacted.contains(&all), "{family}: {redacted:?}");
                assert!(redactor.is_clean(&redacted) && redactor.is_clean(&shown), "{family}: {shown:?}");
            }
        }
    }
}

#[test]
fn what_is_hidden_beside_a_secret_stays() {
    let secret = format!("gh{}_{}", "p", "a1B2c3D4e5F6g7H8i9J0a1B2c3D4e5F6g7H8");
    let grep = format!("a key: \u{1b}[01;31m\u{1b}[K{}\u{1b}[m\u{1b}[K{}\r\n", &secret[..4], &secret[4..]);
    assert_eq!(redact(&grep), "a key: \u{1b}[01;31m\u{1b}[K[redacted:github]\r\n");
    for text in ["\u{1b}[1mgreen\u{1b}[m is the \u{200b}new\r\nline", "\u{1b}]0;title\u{7} pass\u{200b}word"]
    {
        assert!(matches!(redactor().redact(text), (Cow::Borrowed(_), 0)), "{text:?}");
    }
}

#[test]
fn what_stands_beside_an_encoded_secret_stays() {
    let secret = format!("gh{}_{}", "p", "a1B2c3D4e5F6g7H8i9J0");
    let encoded = base64_core(format!("the key is {secret}; keep it\n\n").as_bytes(), 0, *b"+/");
    let redacted = redact(&format!("data:{encoded}, twice"));
    assert!(redacted.starts_with("data:dGhlIGtleSBp[redacted:github]"), "{redacted}");
    assert!(redacted.ends_with("IGtlZXAgaXQKC, twice"), "{redacted}");
    let escaped = secret.replace('_', "\\u005f");
    assert_eq!(redact(&format!("{{\"a\":\"{escaped}\"}}")), "{\"a\":\"[redacted:github]\"}");
}

#[test]
fn credentials_are_known_by_what_stands_before_them() {
    for (text, redacted) in [
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer [redacted:authorization]"),
        ("-H 'authorization: Basic dXNlcjpwYXNz'", "-H 'authorization: Basic [redacted:authorization]'"),
        ("use bearer abcdefghijklmnop", "use bearer [redacted:bearer]"),
        ("https://me:hunter22@host/x", "https://[redacted:userinfo]@host/x"),
        ("postgres://app:p4ss@db:5432", "postgres://[redacted:userinfo]@db:5432"),
        ("PASSWORD=hunter22", "PASSWORD=[redacted:assignment]"),
        ("DB_PASSWORD=hunter22 make", "DB_PASSWORD=[redacted:assignment] make"),
        ("?token=abcdef123&x=1", "?token=[redacted:assignment]&x=1"),
        ("\"client_secret\": \"abcdef123\"", "\"client_secret\": \"[redacted:assignment]\""),
        (
            r#"{"command":"curl -d \"password\": \"abcdef123\""}"#,
            r#"{"command":"curl -d \"password\": \"[redacted:assignment]\""}"#,
        ),
        ("api_key = 'abcdef123'", "api_key = '[redacted:assignment]'"),
        ("AWS_SECRET_ACCESS_KEY=abcdef/123+x", "AWS_SECRET_ACCESS_KEY=[redacted:assignment]"),
    ] {
        assert_eq!(redact(text), redacted);
    }
}

#[test]
fn what_is_encoded_twice_or_over_several_lines_is_found() {
    let base64 = |text: &str| base64_core(format!("{text}   ").as_bytes(), 0, *b"+/");
    let hex = |text: &str| text.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let wrap = |text: &str, width: usize, end: &str| {
        let lines: Vec<&str> =
            text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join(end) + end
    };
    let mut secrets = planted();
    secrets.push(("DEPLOY_KEY", "correct horse/battery+staple".to_owned()));
    for (family, secret) in secrets {
        let text = format!("{} {secret} {}", "before ".repeat(9), "after ".repeat(20));
        for twice in
            [base64(&base64(&text)), hex(&base64(&text)), base64(&hex(&text)), base64(&hex(&text)[1..])]
        {
            let redacted = redact(&format!("<{twice}>"));
            assert!(redacted.contains(&format!("[redacted:{family}]")), "{family}: {redacted}");
        }
        for (encoded, width) in
            [(base64(&text), 76), (base64(&text), 64), (base64(&text), 40), (hex(&text), 60)]
        {
            for end in ["\n", "\r\n", "\\n", "\\r\\n", "\\\\n"] {
                let lines = wrap(&encoded, width, end);
                let redacted = redact(&format!("> {lines}end"));
                assert!(
                    redacted.contains(&format!("[redacted:{family}]")),
                    "{family}, {width}, {end:?}: {redacted}"
                );
                // What stands before and behind it stays.
                assert!(redacted.starts_with(&format!("> {}", &lines[..40])), "{redacted}");
                assert!(redacted.ends_with("end"), "{redacted}");
            }
        }
    }
    let lines = wrap(&base64(&"nothing to see here, go on. ".repeat(20)), 76, "\n");
    assert_eq!(redact(&lines), lines);
}

#[test]
fn a_key_that_is_cut_is_removed_to_the_end() {
    assert_eq!(redact("x -----BEGIN OPENSSH PRIVATE KEY-----\nabc"), "x [redacted:private-key]");
}

#[test]
fn code_and_prose_stay() {
    for text in [
        "task-list and risk-averse desk-1",
        "let token = lexer.next_token();",
        "token=$TOKEN make",
        "token=next(tokens)",
        "the password is wrong, token count: 12",
        "https://example.org/a:b@c",
        "fn secret(&self) -> &str",
        "sk-learn-style names",
        "ghp_ is a prefix, as is AKIA",
        "-----BEGIN CERTIFICATE-----\nabc",
        "a path such as src/orchestrate/supervise/dispatcher and refs/heads/orchestra/blue-heron",
        "commit 4f2a9c31d08be75566e1b7d0a9c31d08be755661 of 2026",
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
        "https://example.org/a%20b%2Fc?q=%C3%A9 and caf\\u00e9 \\/ \\u2026",
        "SGVsbG8gd29ybGQsIHRoaXMgaXMgcGxhaW4gdGV4dCBpbiBiYXNlIDY0Lg==",
        "api-reference, key-value, pat.rs, sk.rs and s.len()",
        "the Discord server, our Discord, and Heroku: not secrets",
    ] {
        let redactor = redactor();
        assert!(matches!(redactor.redact(text), (Cow::Borrowed(_), 0)), "{:?}", redactor.redact(text));
        assert!(redactor.is_clean(text));
    }
}

#[test]
fn known_values_are_found_in_every_form() {
    assert_eq!(redact("echo correct horse/battery+staple!"), "echo [redacted:DEPLOY_KEY]!");
    assert_eq!(redact("q=correct%20horse%2Fbattery%2Bstaple"), "q=[redacted:DEPLOY_KEY]");
    assert_eq!(redact("636f727265637420686f7273652f626174746572792b737461706c65"), "[redacted:DEPLOY_KEY]");
    // base 64 of `correct horse/battery+staple` with none, one and two bytes before it.
    for encoded in [
        "Y29ycmVjdCBob3JzZS9iYXR0ZXJ5K3N0YXBsZQ==",
        "eGNvcnJlY3QgaG9yc2UvYmF0dGVyeStzdGFwbGU=",
        "eHhjb3JyZWN0IGhvcnNlL2JhdHRlcnkrc3RhcGxl",
    ] {
        let redacted = redact(encoded);
        assert!(redacted.contains("[redacted:DEPLOY_KEY]"), "{redacted}");
        assert!(redacted.len() < "[redacted:DEPLOY_KEY]".len() + 8, "{redacted}");
    }
    assert_eq!(redact("this is true"), "this is true");
    let redactor = Redactor::new([("KEY", "first line\nsecond \"line\"")]);
    assert_eq!(redactor.redact(r#"{"x":"first line\nsecond \"line\""}"#).0, r#"{"x":"[redacted:KEY]"}"#);
}

#[test]
fn redacting_twice_changes_nothing() {
    for (_, secret) in planted() {
        let once = redact(&format!("password={secret} Authorization: Bearer {secret}"));
        assert!(!once.contains(&secret), "{once}");
        assert_eq!(redactor().redact(&once).0, once);
    }
}

proptest! {
    #[test]
    fn a_planted_secret_never_survives(
        before in "[ -~]{0,30}[ \n\"'=:(]", after in "[ \n\"')&,][ -~]{0,30}",
        index in any::<prop::sample::Index>(),
    ) {
        let planted = planted();
        let (_, secret) = &planted[index.index(planted.len())];
        let redactor = Redactor::new([("A", "")]);
        let text = format!("{before}{secret}{after}");
        prop_assert!(!redactor.redact(&text).0.contains(secret.as_str()), "{}", text);
    }

    #[test]
    fn what_is_redacted_is_clean_as_it_is_shown(
        parts in prop::collection::vec(
            ("[ -~é\\n]{0,6}", any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_u8..4),
            0..8,
        ),
        seed in any::<u32>(),
    ) {
        let mut state = u64::from(seed);
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let examples = Redactor::examples(&mut random);
        let mut text = String::new();
        for (between, which, hidden, way) in &parts {
            let (_, _, example) = &examples[which.index(examples.len())];
            let (hidden, at) = (HIDDEN[hidden.index(HIDDEN.len())], random(example.len()));
            text.push_str(between);
            match way {
                0 => text.push_str(hidden),
                1 => text.push_str(&example[..at]),
                2 => text.push_str(&example[at..]),
                _ => text.extend([&example[..at], hidden, &example[at..]]),
            }
        }
        let redactor = redactor();
        let (redacted, count) = redactor.redact(&text);
        prop_assert_eq!(count == 0, matches!(redacted, Cow::Borrowed(_)));
        prop_assert_eq!(count == 0, redactor.is_clean(&text));
        prop_assert_eq!(redactor.redact(&redacted).1, 0);
        let shown = sanitise_text(&redacted);
        prop_assert_eq!(redactor.redact(&shown).1, 0, "{:?}", shown);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(\\PC|\\pC){0,120}") {
        let redactor = redactor();
        let (redacted, count) = redactor.redact(&text);
        prop_assert_eq!(count == 0, matches!(redacted, Cow::Borrowed(_)));
    }
}

/// Found by fuzzing: each mark completes the shape of the next secret, more often than a text is looked through again.
#[test]
fn a_chain_that_never_ends_by_itself_is_cut_out() {
    let chain = String::from_utf8_lossy(include_bytes!("../../../fixtures/redactor/chain")).into_owned();
    for text in [chain.clone(), format!("before {chain} after"), chain.repeat(3)] {
        let once = redact(&text);
        assert_eq!(redact_again(&once), once);
    }
    assert!(redact(&format!("before it, {chain}")).starts_with("before it, "), "what was clean stays");
}

fn redact_again(text: &str) -> String {
    redactor().redact(text).0.into_owned()
}
