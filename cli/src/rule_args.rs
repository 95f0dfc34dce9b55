//! The flags that say which requests are intercepted. Their order counts: conditions up to an `--any` belong
//! together.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use clap::error::ErrorKind as ClapError;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use kdev_proto::Failure;
use kdev_proto::v1::ErrorKind;
use kdev_rules::{Flag, Item, Rule};

const ANY: &str = "any";
const FILE: &str = "match";
const HEADING: &str = "Which requests [default: every connection, whatever it carries]";
/// The longest file, in bytes.
const LONGEST: u64 = 1 << 20;

/// Which requests, as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleArgs {
    /// As flags.
    Flags(Rule),
    /// In a file.
    File(PathBuf),
}

impl RuleArgs {
    /// The flags' names.
    pub const NAMES: [&str; 8] = {
        let [a, b, c, d, e, f] = Flag::ALL;
        [
            a.name(),
            b.name(),
            c.name(),
            d.name(),
            e.name(),
            f.name(),
            ANY,
            FILE,
        ]
    };

    /// The rule itself.
    ///
    /// # Errors
    ///
    /// When the file can't be read or has no rule in it.
    pub fn rule(&self) -> Result<Rule, Failure> {
        match self {
            Self::Flags(rule) => Ok(rule.clone()),
            Self::File(path) => read(path).map_err(|why| {
                Failure::new(
                    ErrorKind::Usage,
                    format!("can't use the rule in {}", path.display()),
                    why,
                    "write it as YAML or JSON, for instance {any: [{all: [{header: x-user=ann}, \
                     {path-prefix: /cart}]}]}; conditions have the names and values of the flags",
                )
            }),
        }
    }
}

fn read(path: &Path) -> Result<Rule, String> {
    let text = bounded(path)?;
    let rule: Rule = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
    if rule.is_everything() {
        return Err("it has no conditions".to_owned());
    }
    Ok(rule)
}

/// Reads a file, or what comes from a pipe or a device, which may have no end and doesn't say how much it has.
fn bounded(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!(
            "it has more than {LONGEST} bytes, which is too much"
        ));
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

impl Args for RuleArgs {
    fn augment_args(command: Command) -> Command {
        let condition = |flag: Flag| {
            Arg::new(flag.name())
                .long(flag.name())
                .value_name(value_name(flag))
                .help(help(flag))
                .action(ArgAction::Append)
                .value_parser(NonEmptyStringValueParser::new())
                .conflicts_with(FILE)
        };
        let any = Arg::new(ANY)
            .long(ANY)
            .help(
                "What follows is another group: a request has to meet all conditions of one group",
            )
            .action(ArgAction::Append)
            .num_args(0)
            .default_missing_value("")
            .conflicts_with(FILE);
        let file = Arg::new(FILE)
            .long(FILE)
            .value_name("FILE")
            .help("The conditions in a file, YAML or JSON: any: [{all: [{header: x-user=ann}]}]")
            .value_parser(value_parser!(PathBuf));
        command
            .next_help_heading(HEADING)
            .args(Flag::ALL.map(condition))
            .args([any, file])
            .next_help_heading(None)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn value_name(flag: Flag) -> &'static str {
    match flag {
        Flag::Header => "NAME=VALUE|NAME~REGEX",
        Flag::Path | Flag::PathPrefix => "PATH",
        Flag::PathRegex => "REGEX",
        Flag::Method => "METHOD",
        Flag::Baggage => "KEY=VALUE",
    }
}

fn help(flag: Flag) -> &'static str {
    match flag {
        Flag::Header => {
            "A header with this value, or whose whole value matches; of TLS, host is its server's name"
        }
        Flag::Path => "This path, without its query",
        Flag::PathPrefix => "This path and all below it",
        Flag::PathRegex => "Paths that match as a whole",
        Flag::Method => "This method",
        Flag::Baggage => "This member of the headers baggage or tracestate (W3C)",
    }
}

impl FromArgMatches for RuleArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        if let Some(file) = matches.get_one::<PathBuf>(FILE) {
            return Ok(Self::File(file.clone()));
        }
        let mut typed: Vec<(usize, Item<'_>)> = Vec::new();
        for flag in Flag::ALL {
            let values = matches
                .get_many::<String>(flag.name())
                .into_iter()
                .flatten();
            let places = matches.indices_of(flag.name()).into_iter().flatten();
            typed.extend(places.zip(values.map(|text| Item::Condition(flag, text))));
        }
        let places = matches.indices_of(ANY).into_iter().flatten();
        typed.extend(places.map(|place| (place, Item::Any)));
        typed.sort_by_key(|(place, _)| *place);
        Rule::from_flags(typed.into_iter().map(|(_, item)| item))
            .map(Self::Flags)
            .map_err(|error| clap::Error::raw(ClapError::ValueValidation, format!("{error}\n")))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<RuleArgs, clap::Error> {
        let command = RuleArgs::augment_args(Command::new("x").no_binary_name(true));
        RuleArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    fn shown(words: &[&str]) -> String {
        parse(words).unwrap().rule().unwrap().to_string()
    }

    #[test]
    fn flags_are_a_rule_in_the_order_in_which_they_are_typed() {
        assert_eq!(shown(&[]), "");
        for words in [
            "--header x-user=ann --path-prefix /cart",
            "--path-prefix /cart --header x-user=ann",
            "--header a=1 --any --header b=2 --method GET --any --baggage k=v",
        ] {
            assert_eq!(shown(&words.split(' ').collect::<Vec<_>>()), words);
        }
    }

    #[test]
    fn what_isnt_a_rule_is_refused() {
        for words in [
            &["--header", "x-user"][..],
            &["--header", ""],
            &["--path-regex", "("],
            &["--any"],
            &["--header", "a=1", "--any"],
            &["--header", "a=1", "--match", "rule.yaml"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_file_holds_a_rule_as_yaml_or_json() {
        let path = std::env::temp_dir().join(format!("kdev-rule-{}.yaml", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            parse(&["--match", path.to_str().unwrap()]).unwrap().rule()
        };
        let yaml = read("any:\n- all:\n  - header: x-user=ann\n  - path-prefix: /cart\n");
        assert_eq!(
            yaml.unwrap().to_string(),
            "--header x-user=ann --path-prefix /cart"
        );
        let json = read(r#"{"any":[{"all":[{"method":"GET"}]}]}"#);
        assert_eq!(json.unwrap().to_string(), "--method GET");
        for wrong in ["{}", "any: []", "headers: [a]", ":"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(read_missing().contains("No such file"));
    }

    fn read_missing() -> String {
        refused(Path::new("/nonexistent"))
    }

    fn refused(path: &Path) -> String {
        let refused = RuleArgs::File(path.into()).rule().unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Usage);
        refused.to_string()
    }

    #[test]
    fn a_file_without_an_end_is_refused_as_one_that_is_too_long_is() {
        assert!(refused(Path::new("/dev/zero")).contains("more than 1048576 bytes"));
        let path = std::env::temp_dir().join(format!("kdev-long-rule-{}", std::process::id()));
        let rule = r#"{"any":[{"all":[{"method":"GET"}]}]}"#;
        let of_length = |length| {
            let blank = " ".repeat(length - rule.len());
            std::fs::write(&path, format!("{rule}{blank}")).unwrap();
        };
        of_length(1 << 20);
        let longest = RuleArgs::File(path.clone()).rule().unwrap();
        assert_eq!(longest.to_string(), "--method GET");
        of_length((1 << 20) + 1);
        assert!(refused(&path).contains("more than 1048576 bytes"));
        // What is cut isn't looked at.
        std::fs::write(&path, "\u{e4}".repeat(1 << 20)).unwrap();
        assert!(refused(&path).contains("more than 1048576 bytes"));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_rule_comes_through_a_pipe_too() {
        use std::io::Write as _;
        use std::os::fd::AsRawFd as _;
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"any: [{all: [{header: x=1}]}]").unwrap();
        drop(writer);
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let rule = RuleArgs::File(path.into()).rule().unwrap();
        assert_eq!(rule.to_string(), "--header x=1");
    }
}
