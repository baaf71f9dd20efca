//! What a definition's own commands make ahead: all of it, or nothing.

use std::{fs, os::unix::fs::MetadataExt};

use super::{PrecompileError, Workshop, make_directory, of};

impl Workshop<'_> {
    /// Runs the definition's commands, unless all that they make is there and up to date.
    pub(super) fn run_commands(&self, stopped: &dyn Fn() -> bool, made: &mut dyn FnMut(&str)) -> Result<(), PrecompileError> {
        let place = self.directory.join("made");
        if self.precompile.commands.is_empty() || self.is_made() {
            return Ok(());
        }
        // What is out of date must not be used.
        if place.exists() {
            fs::remove_dir_all(&place).map_err(of(&place))?;
        }
        let [output, support, empty] = ["output", "support", "empty"].map(|name| self.scratch.join(name));
        for directory in [&output, &support, &empty] {
            make_directory(directory)?;
        }
        for file in &self.runtime.definition().support {
            // Its name has the language before it.
            let path = support.join(file.path.as_str().rsplit('/').next().unwrap_or_default());
            fs::write(&path, &file.content).map_err(of(&path))?;
        }
        let places = [("{output}", &output), ("{support}", &support), ("{empty}", &empty)];
        for command in &self.precompile.commands {
            let word = |word: &String| {
                places.iter().fold(word.clone(), |word, (name, path)| word.replace(name, &path.display().to_string()))
            };
            if stopped() {
                return Ok(());
            }
            // All users of sandboxes must be able to read it, whatever our own umask is.
            let shell = ["/bin/sh", "-c", r#"umask 022; exec "$0" "$@""#].map(str::to_owned);
            let Some(status) = self.run(shell.into_iter().chain(command.iter().map(word)).collect(), stopped)? else {
                return Ok(());
            };
            if !status.success() {
                let what = format!("what {} has standing by", self.runtime.language());
                return Err(PrecompileError::Failed { what, status, last_line: self.last_line() });
            }
        }
        fs::rename(&output, &place).map_err(of(&place))?;
        made(self.runtime.language());
        Ok(())
    }

    /// Whether it is there, and nothing that it was made from has changed since.
    fn is_made(&self) -> bool {
        let Ok(made) = fs::metadata(self.directory.join("made")) else { return false };
        // The directory is renamed when it is complete: so late was its last change.
        let older = |path: &String| {
            fs::metadata(path).is_ok_and(|file| (file.ctime(), file.ctime_nsec()) <= (made.ctime(), made.ctime_nsec()))
        };
        self.precompile.depends.iter().all(older)
    }
}
