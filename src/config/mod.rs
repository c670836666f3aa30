//! Layered settings with their provenance, profiles, and what the user has approved.
