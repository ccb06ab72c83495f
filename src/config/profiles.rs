//! Reads the operator's own platform rules; the shipped ones need no file.

use std::sync::Arc;

use crate::config::{ProfileFiles, directory};
use crate::policy::profile::{Profile, Profiles, parse};
use crate::yaml::{FILE_MAX, Problem};

/// The shipped profiles and those of the directory, if one is configured.
///
/// # Errors
/// Everything that is wrong with the directory and its files.
pub fn load(files: &ProfileFiles) -> Result<Profiles, Vec<Problem>> {
    let Some(dir) = &files.dir else {
        return Ok(Profiles::default());
    };
    let fix = "make it, or leave `profiles: { dir: … }` out of the configuration";
    let paths = directory::yaml_files(dir, fix).map_err(|problem| vec![problem])?;
    let mut own: Vec<Arc<Profile>> = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        let file = path.display().to_string();
        let text = match directory::read_text(&path, FILE_MAX) {
            Ok(text) => text,
            Err(why) => {
                problems.push(Problem::of_file(&file, why));
                continue;
            }
        };
        match parse::parse(&text, &file) {
            Ok(profile) if own.iter().any(|other| other.name == profile.name) => {
                let message = format!("the profile `{}` is also in another file", profile.name);
                let problem = Problem::at_key(&text, &file, "profile", message);
                problems.push(problem.fix("give one of them another name"));
            }
            Ok(profile) => own.push(Arc::new(profile)),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        Ok(Profiles::new(own))
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "profile: wechat-2023\ntitle: Ours\ngrants: []\n\
        carriers: { customer_message: {} }\n";

    fn files(texts: &[&str]) -> (tempfile::TempDir, ProfileFiles) {
        let dir = tempfile::tempdir().unwrap();
        for (n, text) in texts.iter().enumerate() {
            std::fs::write(dir.path().join(format!("{n}.yaml")), text).unwrap();
        }
        let files = ProfileFiles {
            dir: Some(dir.path().to_owned()),
        };
        (dir, files)
    }

    #[test]
    fn own_profiles_go_before_the_shipped_ones() {
        let (_dir, files) = files(&[OURS]);
        let profiles = load(&files).unwrap();
        assert_eq!(profiles.named("wechat-2023").unwrap().title, "Ours");
        assert_eq!(profiles.overridden(), ["wechat-2023"]);
        let shipped = load(&ProfileFiles::default()).unwrap();
        assert!(shipped.overridden().is_empty());
    }

    #[test]
    fn a_directory_that_was_named_has_to_be_there_and_right() {
        let gone = ProfileFiles {
            dir: Some("/no/such/directory".into()),
        };
        let problems = load(&gone).unwrap_err();
        assert!(
            problems[0]
                .fix
                .as_deref()
                .unwrap()
                .contains("leave `profiles:")
        );
        let (_dir, files) = files(&[OURS, OURS, "profile: x\n"]);
        let problems = load(&files).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].message.contains("also in another file"));
        assert!(problems[0].file.ends_with("1.yaml") && problems[0].line == 1);
        assert!(problems[1].file.ends_with("2.yaml"));
    }
}
