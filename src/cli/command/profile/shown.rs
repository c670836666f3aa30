//! A profile as it is shown.

use crate::agent::Permissions;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::session;
use crate::config::{Layer, Profile, Setting, Settings};
use crate::model::{Budget, Sandbox};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A profile as JSON shows it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) name: String,
    /// `built-in`, or the strongest layer that says something of it.
    pub(super) layer: &'static str,
    /// Where it was said first, and who says something of it beyond that.
    pub(super) origins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    pub(super) program: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
    pub(super) permissions: Permissions,
    /// What confines its agents.
    pub(super) sandbox: Sandbox,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tools: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) denied_tools: Vec<String>,
    #[serde(skip_serializing_if = "Budget::is_empty")]
    pub(super) budget: Budget,
    /// What a million tokens of input, of input from a cache, and of output cost, in millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) price_micro_usd: Option<[u64; 3]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_timeout_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) timeout_s: Option<u64>,
    /// Whether all of it counts: false for what waits for an approval.
    pub(super) approved: bool,
    /// What the file of an agent says that is not handed on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ignored: Vec<String>,
    /// Who says which of its keys.
    pub(super) said_by: BTreeMap<String, String>,
}

impl Shown {
    /// The profile of this name.
    pub(super) fn load(settings: &Settings, name: &str) -> Result<Self, CliError> {
        let preview = settings.preview(name).map_err(|error| session::misnamed(settings, name, error))?;
        let approved = settings.profile(name).is_ok();
        let said: Vec<&Setting> = settings.profile_settings(name).collect();
        let layers: BTreeSet<Layer> = said.iter().map(|setting| setting.origin.layer).collect();
        let mut origins = Vec::new();
        for layer in &layers {
            for setting in said.iter().filter(|setting| setting.origin.layer == *layer) {
                let origin = setting.origin.to_string();
                if !origins.contains(&origin) {
                    origins.push(origin);
                }
            }
        }
        let ignored = origins.iter().flat_map(|origin| settings.ignored(origin).iter().cloned()).collect();
        let prefix = format!("profile.{name}.");
        let said_by = said.iter().map(|setting| {
            (setting.key[prefix.len()..].to_owned(), setting.origin.to_string())
        });
        let said_by = said_by.collect();
        let price = preview.price().map(|price| [price.input, price.cached, price.output]);
        let Profile { name, program, model, role, description, tools, denied_tools, permissions, sandbox, .. } = preview;
        Ok(Self {
            name,
            layer: layers.last().copied().unwrap_or(Layer::BuiltIn).word(),
            origins,
            description,
            program,
            model,
            role,
            permissions,
            sandbox,
            tools,
            denied_tools,
            budget: preview.budget,
            price_micro_usd: price,
            idle_timeout_s: preview.idle_timeout.map(|span| span.as_secs()),
            timeout_s: preview.timeout.map(|span| span.as_secs()),
            approved,
            ignored,
            said_by,
        })
    }

    /// The word for what it may do.
    pub(super) const fn permissions(&self) -> &'static str {
        match self.permissions {
            Permissions::Plan => "plan",
            Permissions::AcceptEdits => "accept-edits",
            Permissions::Bypass => "bypass",
        }
    }
}

/// Says which files of agents were left out, and why.
pub(super) fn say_skipped(ctx: &Context) -> Result<(), CliError> {
    for file in ctx.settings()?.skipped() {
        ctx.ui().warn(format!("left out `{}`: {}", file.place, file.why));
    }
    Ok(())
}
