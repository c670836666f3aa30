//! Families of secrets that are known by their shape.

/// One family: literals that a secret of it starts with (in any case), and the expression that tells.
#[derive(Debug)]
pub(super) struct Family {
    /// Stands in the replacement.
    pub(super) name: &'static str,
    /// A text without any of these (ASCII case aside) holds none of the family.
    pub(super) starts: &'static [&'static str],
    /// Anchored where the start was found; the group `secret` (or `bare`) is what is replaced.
    pub(super) pattern: &'static str,
    /// Whether the start must not follow a letter or digit: `sk-` is no key in `task-list`.
    pub(super) whole_word: bool,
}

const fn token(name: &'static str, starts: &'static [&'static str], pattern: &'static str) -> Family {
    Family { name, starts, pattern, whole_word: true }
}

pub(super) const FAMILIES: &[Family] = &[
    token("anthropic", &["sk-ant-"], r"^(?P<secret>sk-ant-[A-Za-z0-9_-]{8,})"),
    token(
        "api-key",
        &["sk-"],
        r"^(?P<secret>sk-(?:proj-|svcacct-|admin-|or-v1-)?[A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]{12,})",
    ),
    token(
        "stripe",
        &["sk_live_", "sk_test_", "rk_live_", "whsec_"],
        r"^(?P<secret>(?:[sr]k_(?:live|test)_|whsec_)[A-Za-z0-9]{12,})",
    ),
    token("github", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"^(?P<secret>gh[pousr]_[A-Za-z0-9]{16,})"),
    token("github", &["github_pat_"], r"^(?P<secret>github_pat_[A-Za-z0-9_]{16,})"),
    token(
        "gitlab",
        &["glpat-", "gldt-", "glrt-", "glcbt-", "glptt-"],
        r"^(?P<secret>gl(?:pat|dt|rt|cbt|ptt)-[A-Za-z0-9_.-]{16,})",
    ),
    token("aws", &["akia", "asia"], r"^(?P<secret>(?:AKIA|ASIA)[A-Z0-9]{16})\b"),
    token(
        "slack",
        &["xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-", "xoxe-", "xapp-"],
        r"^(?P<secret>(?:xox[abprse]|xapp)-[A-Za-z0-9-]{10,})",
    ),
    token("google", &["aiza"], r"^(?P<secret>AIza[A-Za-z0-9_-]{30,})"),
    token("google", &["ya29."], r"^(?P<secret>ya29\.[A-Za-z0-9_-]{16,})"),
    token("jwt", &["eyj"], r"^(?P<secret>eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?)"),
    token("npm", &["npm_"], r"^(?P<secret>npm_[A-Za-z0-9]{30,})"),
    token("pypi", &["pypi-"], r"^(?P<secret>pypi-[A-Za-z0-9_-]{32,})"),
    token("hugging-face", &["hf_"], r"^(?P<secret>hf_[A-Za-z0-9]{20,})"),
    token("digitalocean", &["dop_v1_", "doo_v1_"], r"^(?P<secret>do[op]_v1_[a-f0-9]{32,})"),
    token("sendgrid", &["sg."], r"^(?P<secret>SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"),
    token("age", &["age-secret-key-"], r"^(?P<secret>AGE-SECRET-KEY-1[A-Z0-9]{20,})"),
    Family {
        name: "private-key",
        starts: &["-----begin"],
        // To the end of the key, or of the text if the key is cut. Inside JSON the line breaks are `\n`.
        pattern: r"^(?P<secret>-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z))",
        whole_word: false,
    },
    token("bearer", &["bearer"], r"^(?i:bearer)\s+(?P<secret>[A-Za-z0-9._~+/=-]{12,})"),
    token(
        "authorization",
        &["authorization"],
        r#"^(?i:authorization)\\?["']?\s*[:=]\s*\\?["']?(?:(?i:basic|bearer|token|digest|bot)\s+)?(?P<secret>[^\s"'\\,;]{8,})"#,
    ),
    Family {
        name: "userinfo",
        starts: &["://"],
        pattern: r#"^://(?P<secret>[^\s/@:"'<>\\]*:[^\s/@"'<>\\]{3,})@"#,
        whole_word: false,
    },
    Family {
        name: "assignment",
        starts: &[
            "password",
            "passwd",
            "passphrase",
            "secret",
            "token",
            "api_key",
            "api-key",
            "apikey",
            "access_key",
            "access-key",
            "accesskey",
            "private_key",
            "credential",
            "auth_key",
            "x-api-key",
        ],
        // Quoted with any space around the sign, or bare: `"token": "…"`, `PASSWORD=…`, `?token=…`. Bare values that
        // are code (`token=next(…)`, `$TOKEN`, `password: String`) stay.
        pattern: concat!(
            r"^(?i:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private_key|credential|auth_key|x-api-key)",
            r"(?i:s|_?id|_?key|_?access_?key|_?value)?",
            r#"(?:(?:(?:\\?["'])?\s*[:=]\s*\\?["']|=)"#,
            r#"(?P<secret>[^\s"'\\&;,(){}<>\[\]$`][^\s"'\\&;,(){}<>`]{5,})(?:[\s"'\\&;,\]<>`)]|\z)"#,
            r#"|:\s?(?P<bare>[^\s"'\\&;,(){}<>\[\]$`]{3,}[0-9][^\s"'\\&;,(){}<>`]{2,})(?:[\s"'\\&;,\]<>`)]|\z))"#,
        ),
        whole_word: false,
    },
];
