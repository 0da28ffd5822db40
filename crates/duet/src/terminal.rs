//! Colours and cursor movement: only where a person looks at a terminal, and never with `NO_COLOR`.

use std::io::{IsTerminal, Write};

/// Paints text, or leaves it as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// Never any colour.
    pub const fn plain() -> Self {
        Self { colours: false }
    }

    /// Colours when standard output is a terminal that wants them.
    pub fn stdout() -> Self {
        Self { colours: wanted(std::io::stdout().is_terminal()) }
    }

    /// Colours when standard error is a terminal that wants them.
    pub fn stderr() -> Self {
        Self { colours: wanted(std::io::stderr().is_terminal()) }
    }

    /// Whether colours are on.
    pub const fn is_on(self) -> bool {
        self.colours
    }

    fn wrap(self, code: &str, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What matters most.
    pub fn bold(self, text: impl AsRef<str>) -> String {
        self.wrap("1", text)
    }

    /// Less important.
    pub fn dim(self, text: impl AsRef<str>) -> String {
        self.wrap("2", text)
    }

    /// Good.
    pub fn green(self, text: impl AsRef<str>) -> String {
        self.wrap("32", text)
    }

    /// Waiting.
    pub fn yellow(self, text: impl AsRef<str>) -> String {
        self.wrap("33", text)
    }

    /// Wrong.
    pub fn red(self, text: impl AsRef<str>) -> String {
        self.wrap("31", text)
    }

    /// Names.
    pub fn cyan(self, text: impl AsRef<str>) -> String {
        self.wrap("36", text)
    }
}

/// `NO_COLOR` with any content, or a terminal that can do nothing, means no colours.
fn wanted(is_terminal: bool) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    is_terminal && !refused && !dumb
}

/// Writes to standard output and ends quietly when nobody reads any more (`duet status | head -1`).
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Clears the screen before the next frame of a watched display; a pipe gets frame after frame instead.
pub fn clear_screen() {
    if std::io::stdout().is_terminal() {
        print("\x1b[H\x1b[2J\x1b[3J");
    }
}

/// A short note on progress, on standard error; on a terminal the next one replaces it.
pub struct Progress {
    live: bool,
    shown: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Live on a terminal, line by line elsewhere.
    pub fn new() -> Self {
        Self { live: std::io::stderr().is_terminal(), shown: false }
    }

    /// Shows what is going on now.
    pub fn say(&mut self, text: &str) {
        let mut err = std::io::stderr().lock();
        if self.live {
            write!(err, "\r\x1b[2K{text}").ok();
        } else {
            writeln!(err, "{text}").ok();
        }
        err.flush().ok();
        self.shown = true;
    }

    /// Removes the note.
    pub fn clear(&mut self) {
        if self.live && self.shown {
            write!(std::io::stderr().lock(), "\r\x1b[2K").ok();
        }
        self.shown = false;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
