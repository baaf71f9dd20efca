use greenroom_core::{Limits, RelativePath};

/// A command with placeholders, as `runtime.toml` gives it: parsed when it is loaded, so that a mistake is found at start
/// and not at a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Word>);

/// One argument of a command, or a placeholder that becomes many.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Text(Vec<Piece>),
    /// `{sources}`: the translation units, in order.
    Sources,
    /// `{args}`: what the caller wants the program to get.
    Args,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// The main file.
    Main,
    /// The directory of the main file: `.` or `./x`.
    MainDirectory,
    /// The main file's name without its extension.
    MainStem,
    /// The main file's name as a double-quoted C string.
    MainQuoted,
    /// The class that has the entry point.
    MainClass,
    /// The stage's memory limit, MiB.
    MemoryMb,
    /// The stage's share of processors, rounded up to whole ones.
    Processors,
    /// SQL that makes a table `argv` of the arguments.
    ArgumentTable,
}

const SLOTS: [(&str, Slot); 8] = [
    ("main", Slot::Main),
    ("main_directory", Slot::MainDirectory),
    ("main_stem", Slot::MainStem),
    ("main_quoted", Slot::MainQuoted),
    ("main_class", Slot::MainClass),
    ("memory_mb", Slot::MemoryMb),
    ("processors", Slot::Processors),
    ("argument_table", Slot::ArgumentTable),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Slot(Slot),
}

/// What is wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No words.
    #[error("must not be empty")]
    Empty,
    /// The program is exec'ed, not searched for.
    #[error("the program {0:?} must be an absolute path, or start with \"./\"")]
    Unanchored(String),
    /// A `{word}` that means nothing.
    #[error(
        "unknown placeholder {{{0}}}: expected sources, args (alone in their word), main, main_directory, main_stem, main_quoted, main_class, memory_mb, processors or argument_table"
    )]
    UnknownPlaceholder(String),
}

/// What the placeholders stand for in one stage.
pub(crate) struct Values<'a> {
    pub main: &'a RelativePath,
    pub main_class: Option<&'a str>,
    pub sources: &'a [RelativePath],
    pub args: &'a [String],
    pub limits: &'a Limits,
}

impl Template {
    pub fn parse(argv: &[String]) -> Result<Self, TemplateError> {
        let first = argv.first().ok_or(TemplateError::Empty)?;
        if !first.starts_with('/') && !first.starts_with("./") {
            return Err(TemplateError::Unanchored(first.clone()));
        }
        argv.iter().map(|word| parse_word(word)).collect::<Result<_, _>>().map(Self)
    }

    /// Words that are no command.
    pub fn parse_words(words: &[String]) -> Result<Self, TemplateError> {
        words.iter().map(|word| parse_word(word)).collect::<Result<_, _>>().map(Self)
    }

    pub fn expand(&self, values: &Values<'_>) -> Vec<String> {
        let mut argv = Vec::with_capacity(self.0.len() + values.args.len() + values.sources.len());
        for word in &self.0 {
            match word {
                Word::Sources => argv.extend(values.sources.iter().map(as_operand)),
                Word::Args => argv.extend_from_slice(values.args),
                Word::Text(pieces) => argv.push(pieces.iter().map(|piece| piece.expand(values)).collect()),
            }
        }
        argv
    }

    /// Whether the entry point's class is asked for.
    pub fn wants_main_class(&self) -> bool {
        let wanted = Piece::Slot(Slot::MainClass);
        self.0.iter().any(|word| matches!(word, Word::Text(pieces) if pieces.contains(&wanted)))
    }
}

impl Piece {
    fn expand(&self, values: &Values<'_>) -> String {
        match self {
            Piece::Literal(text) => text.clone(),
            Piece::Slot(Slot::Main) => as_operand(values.main),
            Piece::Slot(Slot::MainDirectory) => match values.main.parent() {
                "" => ".".to_owned(),
                parent => format!("./{parent}"),
            },
            Piece::Slot(Slot::MainStem) => as_operand(&stem(values.main)),
            Piece::Slot(Slot::MainQuoted) => {
                format!("\"{}\"", as_operand(values.main).replace('\\', "\\\\").replace('"', "\\\""))
            }
            Piece::Slot(Slot::MainClass) => values.main_class.unwrap_or_default().to_owned(),
            Piece::Slot(Slot::MemoryMb) => (values.limits.memory_bytes >> 20).max(1).to_string(),
            Piece::Slot(Slot::Processors) => values.limits.cpu_milli.div_ceil(1000).max(1).to_string(),
            Piece::Slot(Slot::ArgumentTable) => argument_table(values.args),
        }
    }
}

fn parse_word(word: &str) -> Result<Word, TemplateError> {
    match word {
        "{sources}" => return Ok(Word::Sources),
        "{args}" => return Ok(Word::Args),
        _ => {}
    }
    let (mut pieces, mut rest) = (Vec::new(), word);
    while let Some((literal, tail)) = rest.split_once('{') {
        let (name, tail) = tail.split_once('}').ok_or_else(|| TemplateError::UnknownPlaceholder(tail.to_owned()))?;
        let known = SLOTS.iter().find(|(slot, _)| *slot == name);
        let (_, slot) = known.ok_or_else(|| TemplateError::UnknownPlaceholder(name.to_owned()))?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        pieces.push(Piece::Slot(*slot));
        rest = tail;
    }
    if !rest.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(Word::Text(pieces))
}

/// A file name as an argument that no program takes for an option (`-x`), a file of options (`@x` for javac and gcc), a pipe
/// (`|x` for sqlite3 and perl) or an assignment (`x=1` for awk).
fn as_operand(path: &RelativePath) -> String {
    let path = path.as_str();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || byte >= 0x80;
    if path.bytes().next().is_some_and(plain) && !path.contains('=') { path.to_owned() } else { format!("./{path}") }
}

fn stem(path: &RelativePath) -> RelativePath {
    let name = path.file_name();
    let dot = name.rfind('.').filter(|&dot| dot > 0).unwrap_or(name.len());
    let cut = path.as_str().len() - (name.len() - dot);
    RelativePath::new(&path.as_str()[..cut]).unwrap_or_else(|_| path.clone())
}

/// As Piston's sqlite3 does it: the arguments are rows of a table `argv (arg text)`.
fn argument_table(args: &[String]) -> String {
    let mut sql = "create table argv (arg text);".to_owned();
    for arg in args {
        sql.push_str(&format!(" insert into argv (arg) values ('{}');", arg.replace('\'', "''")));
    }
    sql
}
