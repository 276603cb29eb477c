//! The checkout and its settings: where things are, and what `.env` says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::dotenv::DotEnv;
use crate::failure::mistake;
use crate::files::read_text;
use crate::keys;

/// Larger than any sensible `.env`, template or policy; a wrong path shall not fill the memory.
pub const TEXT_LIMIT: u64 = 1 << 20;

/// A checkout of Nexus with its settings.
pub struct Home {
    /// The folder with compose.yml.
    pub directory: PathBuf,
    pub env_file: PathBuf,
    /// `.env` as it is, `None` when there is none yet.
    pub text: Option<String>,
    pub dotenv: DotEnv,
    /// Variables of this process, which win over `.env` as they do with Docker Compose.
    environment: BTreeMap<String, String>,
}

impl Home {
    /// Finds the checkout and reads `.env`. Fails when there is no compose.yml, or `.env` can't be read.
    pub fn open(directory: Option<&Path>, env_file: Option<&Path>) -> Result<Home> {
        let directory = match directory {
            Some(directory) if directory.join("compose.yml").is_file() => directory.to_owned(),
            Some(directory) => {
                return Err(mistake(format!(
                    "{} holds no compose.yml: --directory (or NEXUS_DIRECTORY) must name the checkout of Nexus",
                    directory.display()
                )));
            }
            None => search_upwards()?,
        };
        // A relative path would change its meaning with every program that is given it.
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        let env_file = env_file.map_or_else(|| directory.join(".env"), Path::to_owned);
        let text = read_text(&env_file, TEXT_LIMIT)?;
        let dotenv = DotEnv::parse(text.as_deref().unwrap_or_default());
        let environment = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(key, _)| keys::find(key).is_some())
            .collect();
        Ok(Home { directory, env_file, text, dotenv, environment })
    }

    /// The value in effect: the process's variable, then `.env`, then the default. An empty path or port means unset,
    /// as in compose.yml (`${KEY:-default}`).
    pub fn get(&self, name: &str) -> &str {
        let fallback = keys::find(name).map_or("", |key| key.first.fallback());
        let set = self.environment.get(name).map(String::as_str).or_else(|| self.dotenv.get(name));
        set.filter(|value| !value.is_empty()).unwrap_or(match name {
            // An empty propagation is a setting, not a lack of one.
            "NEXUS_ROOTFS_PROPAGATION" => "",
            _ => fallback,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        let value = self.get(name);
        self.directory.join(value.strip_prefix("./").unwrap_or(value))
    }

    pub fn secrets(&self) -> PathBuf {
        self.path("NEXUS_SECRETS_DIR")
    }

    pub fn rendered(&self) -> PathBuf {
        self.path("NEXUS_RENDERED_DIR")
    }

    /// What `nexus tune` has changed, to take it back.
    pub fn state(&self) -> PathBuf {
        self.path("NEXUS_STATE_DIR")
    }

    pub fn policy(&self) -> PathBuf {
        self.path("NEXUS_POLICY_DIR").join("healer.yml")
    }

    /// Where the policy was before it had a folder of its own.
    pub fn earlier_policy(&self) -> PathBuf {
        self.directory.join("healer.yml")
    }

    /// Base address of a published port, reached from this machine.
    pub fn url(&self, port: &str) -> String {
        format!("http://{}:{}", keys::reachable(self.get("NEXUS_BIND")), self.get(port))
    }

    /// The path as the owner would type it.
    pub fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.directory).unwrap_or(path).display().to_string()
    }

    #[cfg(test)]
    pub fn for_test(directory: &Path, env: &str) -> Home {
        Home {
            directory: directory.to_owned(),
            env_file: directory.join(".env"),
            text: Some(env.to_owned()),
            dotenv: DotEnv::parse(env),
            environment: BTreeMap::new(),
        }
    }
}

fn search_upwards() -> Result<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors().find(|folder| folder.join("compose.yml").is_file() && folder.join("healer").is_dir()).map_or_else(
        || Err(mistake("no checkout of Nexus here: run ./nexus in its folder, or name it with --directory".to_owned())),
        |folder| Ok(folder.to_owned()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_value_means_the_default_but_for_the_propagation() {
        let home = Home::for_test(
            Path::new("/n"),
            "NEXUS_HEALER_PORT=\nNEXUS_BIND=0.0.0.0\nNEXUS_ROOTFS_PROPAGATION=\nNEXUS_SECRETS_DIR=/s\n",
        );
        assert_eq!(home.url("NEXUS_HEALER_PORT"), "http://127.0.0.1:10191");
        assert_eq!(home.get("NEXUS_ROOTFS_PROPAGATION"), "");
        assert_eq!(home.secrets(), Path::new("/s"));
        assert_eq!(home.policy(), Path::new("/n/policy/healer.yml"));
        assert_eq!(home.show(&home.rendered()), "rendered");
    }
}
