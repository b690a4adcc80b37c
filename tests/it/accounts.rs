//! Commands of another account than the gateway's: root, as under systemd, and a backup job.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::gateway::{PLAIN, taku_for};
use super::wire::get;

/// The account of the gateway, and one that is neither that nor root.
const OWNER: u32 = 62_000;
const OTHER: u32 = 63_000;

/// The admin token of the gateway.
const TOKEN: &str = "a-token-of-the-tests-0123456789";

/// A gateway of another account, over a store that only that account can enter.
struct Foreign {
    folder: tempfile::TempDir,
    process: Child,
}

impl Foreign {
    /// `None`: this process may not become another account.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&state, Some(OWNER), Some(OWNER)).ok()?;
        let config = folder.path().join("postern.toml");
        let text = format!(
            "{PLAIN}\n[store]\npath = \"state/data\"\n[admin]\ntoken = \"env:POSTERN_T_TOKEN\"\n"
        );
        fs::write(&config, &text).unwrap();
        let mut command = postern(folder.path());
        command.args(["serve", "--log-format", "json"]).env("POSTERN_T_TOKEN", TOKEN);
        let mut process = command.uid(OWNER).gid(OWNER).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let ready = lines.find(|line| line.contains("\"ready\"")).expect("a gateway that starts");
        std::thread::spawn(move || lines.for_each(drop));
        let text = ["callbacks", "admin"].iter().fold(text, |text, name| {
            let rest = ready.split_once(&format!("\"{name}\":\"")).unwrap().1;
            let at = rest.split_once('"').unwrap().0;
            text.replace(&format!("{name} = \"127.0.0.1:0\""), &format!("{name} = \"{at}\""))
        });
        fs::write(&config, &text).unwrap();
        let callbacks = text.split_once("callbacks = \"").unwrap().1.split_once('"').unwrap().0;
        assert_eq!(get(callbacks.parse().unwrap(), &taku_for("u1", "t1", "10")).status, 200);
        Some(Self { folder, process })
    }

    /// Runs a command as root.
    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        ran(postern(self.folder.path()).args(args))
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn postern(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_postern"));
    command.current_dir(folder).env_remove("POSTERN_CONFIG").env_remove("POSTERN_MASTER_KEY");
    command
}

fn ran(command: &mut Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn root_has_the_gateway_of_another_account_export_verify_and_erase() {
    let Some(mut foreign) = Foreign::start() else { return };
    let (code, said) = foreign.run(&["export", "--output", "whole.export"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(fs::metadata(foreign.folder.path().join("whole.export")).unwrap().uid(), 0);
    let (code, said) = foreign.run(&["verify"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = foreign.run(&["erase", "--user", "u1", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("erased: 1 event, "), "{said}");
    let (code, said) = foreign.run(&["restore", "--check", "whole.export"]);
    assert_eq!(code, Some(0), "{said}");
    // Nothing of it is root's.
    let data = foreign.folder.path().join("state/data");
    for entry in fs::read_dir(&data).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().uid(), OWNER, "{}", entry.path().display());
    }

    foreign.kill();
    // Without a gateway, the line to run: the shell writes where root can.
    let (code, said) = foreign.run(&["export", "--output", "second.export"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("belongs to '#62000'") && said.contains("run: sudo -u '#62000' "),
        "{said}"
    );
    assert!(said.trim_end().ends_with("postern export > second.export"), "{said}");
    assert!(!foreign.folder.path().join("second.export").exists());
    for args in [&["verify"][..], &["forget", "--yes", "level-end"], &["serve"]] {
        let (code, said) =
            ran(postern(foreign.folder.path()).env("POSTERN_T_TOKEN", TOKEN).args(args));
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains("run: sudo -u '#62000' "), "{args:?}: {said}");
        assert!(!said.contains("has stopped"), "{args:?}: {said}");
    }
}

#[test]
fn a_backup_job_of_a_third_account_needs_a_token() {
    let Some(foreign) = Foreign::start() else { return };
    let export = |token: Option<&str>| {
        let mut command = postern(foreign.folder.path());
        command
            .arg("export")
            .uid(OTHER)
            .gid(OTHER)
            .envs(token.map(|value| ("POSTERN_T_TOKEN", value)));
        command.output().unwrap()
    };
    let refused = export(None);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("requires a token"), "{said}");
    let made = export(Some(TOKEN));
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert_eq!(made.status.code(), Some(0), "{said}");
    assert!(!made.stdout.is_empty());
}

#[test]
fn no_command_but_serve_and_import_begins_a_store() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("postern.toml"),
        format!("{PLAIN}\n[store]\npath = \"nowhere\"\n"),
    )
    .unwrap();
    for args in [
        &["erase", "--user", "u1", "--yes"][..],
        &["forget", "--yes", "level-end"],
        &["export", "--output", "x.export"],
        &["verify"],
        &["rebuild"],
    ] {
        let (code, said) = ran(postern(folder.path()).args(args));
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains("there is no ledger in"), "{args:?}: {said}");
        assert!(!folder.path().join("nowhere").exists(), "{args:?}");
    }
}
