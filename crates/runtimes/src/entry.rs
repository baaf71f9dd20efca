//! Where a program for the Java virtual machine starts: the machine wants a class, people send files.

use crate::tokens::{Lexis, Token, tokens};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Java,
    Kotlin,
    Scala,
    Groovy,
}

/// The class to start with, as one file tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its binary name, with its package.
    pub class: String,
    /// Whether an entry point was seen in it. If not, `class` is the best guess.
    pub has_entry: bool,
}

/// A type declared at the top of a file, or an object within.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declaration {
    name: String,
    public: bool,
    has_entry: bool,
}

struct Outline {
    package: Option<String>,
    /// Kotlin's `@file:JvmName("…")`.
    file_class: Option<String>,
    /// Kotlin's `fun main` outside of classes.
    top_level_main: bool,
    types: Vec<Declaration>,
}

/// The entry point of a file called `stem` with an extension.
pub(crate) fn find(source: &str, stem: &str, dialect: Dialect) -> Entry {
    let outline = outline(source, dialect);
    let with_entry = outline.types.iter().find(|declared| declared.has_entry);
    let own_class = match dialect {
        Dialect::Kotlin => Some(outline.file_class.clone().unwrap_or_else(|| kotlin_file_class(stem))),
        Dialect::Groovy => Some(stem.to_owned()),
        Dialect::Java | Dialect::Scala => None,
    };
    let (class, has_entry) = match (own_class, with_entry) {
        (Some(own), _) if outline.top_level_main => (own, true),
        (_, Some(declared)) => (declared.name.clone(), true),
        // A Groovy file is a script unless it declares a class with an entry point.
        (Some(own), None) => (own, dialect == Dialect::Groovy),
        (None, None) => {
            let best = outline.types.iter().find(|declared| declared.public).or(outline.types.first());
            (best.map_or_else(|| stem.to_owned(), |declared| declared.name.clone()), false)
        }
    };
    let class = match &outline.package {
        Some(package) => format!("{package}.{class}"),
        None => class,
    };
    Entry { class, has_entry }
}

/// What javac wants a file to be called: after its public type; where it has none, any name does, and a file that came
/// without one (`named` is false) is called after the type that it would be started with.
pub(crate) fn java_file_stem(source: &str, named: bool) -> Option<String> {
    let types = outline(source, Dialect::Java).types;
    let public = types.iter().find(|declared| declared.public);
    let chosen = public.or_else(|| if named { None } else { types.iter().find(|declared| declared.has_entry).or(types.first()) });
    match chosen {
        Some(declared) => Some(declared.name.clone()),
        None if named => None,
        None => Some("Main".to_owned()),
    }
}

/// `main.kt` becomes `MainKt`, `my-app.kt` `My_appKt`, `1.kt` `_1Kt`.
fn kotlin_file_class(stem: &str) -> String {
    let mut name: String = stem.chars().map(|c| if c.is_alphanumeric() || c == '_' || c == '$' { c } else { '_' }).collect();
    match name.chars().next() {
        Some(first) if first.is_numeric() => name.insert(0, '_'),
        Some(first) => name.replace_range(..first.len_utf8(), &first.to_uppercase().to_string()),
        None => {}
    }
    name + "Kt"
}

fn lexis(dialect: Dialect) -> Lexis {
    match dialect {
        Dialect::Java => Lexis::default(),
        Dialect::Kotlin => Lexis { nested_comments: true, interpolation: true, raw_triple_quotes: true, ..Lexis::default() },
        Dialect::Scala => Lexis { nested_comments: true, interpolation: true, raw_triple_quotes: true, ..Lexis::default() },
        Dialect::Groovy => Lexis { interpolation: true, single_quoted_strings: true, ..Lexis::default() },
    }
}

/// How many words a declaration's modifiers are looked for in, and how deep types are followed: bounds that no honest program
/// comes near, and without which a hostile one costs the square of its length.
const MAX_MODIFIERS: usize = 256;
const MAX_NESTING: usize = 16;

/// A `{` that is open: the type it belongs to, if it is a type's.
struct Scope {
    declared: Option<usize>,
}

fn outline(source: &str, dialect: Dialect) -> Outline {
    let tokens = tokens(source, lexis(dialect));
    let mut outline = Outline { package: None, file_class: None, top_level_main: false, types: Vec::new() };
    let mut scopes: Vec<Scope> = Vec::new();
    // The declaration whose `{` is still to come; and what was said since the last statement or brace: the modifiers.
    let mut pending: Option<usize> = None;
    let mut since: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let token = tokens[at];
        at += 1;
        match token {
            Token::Mark('{') => {
                scopes.push(Scope { declared: pending.take() });
                since.clear();
            }
            Token::Mark('}') => {
                scopes.pop();
                pending = None;
                since.clear();
            }
            Token::Mark(';') => {
                pending = None;
                since.clear();
            }
            Token::Word("package") if scopes.is_empty() && outline.package.is_none() => {
                let (name, behind) = dotted(&tokens, at);
                at = behind;
                // `package object x` is Scala's, and no package clause.
                if name != "object" && !name.is_empty() {
                    outline.package = Some(name);
                }
                since.clear();
            }
            Token::Word("JvmName") if scopes.is_empty() && since.contains(&"file") => {
                if let (Some(Token::Mark('(')), Some(Token::Text(name))) = (tokens.get(at), tokens.get(at + 1)) {
                    outline.file_class = Some((*name).to_owned());
                }
            }
            Token::Word(word) if declares_type(word, dialect) => {
                if let Some(Token::Word(name)) = tokens.get(at).copied().filter(|_| !is_reference(&tokens, at - 1)) {
                    pending = declare(&mut outline, &scopes, name, word, &since, dialect);
                    at += 1;
                } else if word == "object" && since.contains(&"companion") {
                    // Kotlin's `companion object {`: an entry point in it belongs to the class around it.
                    pending = scopes.last().and_then(|scope| scope.declared);
                }
                since.clear();
            }
            Token::Word("App") if dialect == Dialect::Scala && since.iter().any(|&word| word == "extends" || word == "with") => {
                if let Some(declared) = pending {
                    outline.types[declared].has_entry = true;
                }
            }
            Token::Word("main") if is_entry(&tokens, at, &since, &scopes, &outline, dialect) => {
                match scopes.last().and_then(|scope| scope.declared) {
                    Some(declared) => outline.types[declared].has_entry = true,
                    None if scopes.is_empty() => outline.top_level_main = dialect == Dialect::Kotlin,
                    None => {}
                }
            }
            Token::Word(word) => {
                if since.len() == MAX_MODIFIERS {
                    since.drain(..MAX_MODIFIERS / 2);
                }
                since.push(word);
            }
            Token::Mark(_) | Token::Text(_) => {}
        }
    }
    outline
}

fn dotted(tokens: &[Token<'_>], mut at: usize) -> (String, usize) {
    let mut name = String::new();
    while let Some(Token::Word(part)) = tokens.get(at) {
        name.push_str(part);
        at += 1;
        if tokens.get(at) != Some(&Token::Mark('.')) {
            break;
        }
        name.push('.');
        at += 1;
    }
    (name, at)
}

fn declares_type(word: &str, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Java => matches!(word, "class" | "interface" | "enum" | "record"),
        Dialect::Kotlin => matches!(word, "class" | "interface" | "object"),
        Dialect::Scala => matches!(word, "class" | "trait" | "object"),
        Dialect::Groovy => matches!(word, "class" | "interface" | "enum" | "trait"),
    }
}

/// `X.class`, `Foo::class` and `this.record` name something; they declare nothing.
fn is_reference(tokens: &[Token<'_>], keyword: usize) -> bool {
    keyword > 0 && matches!(tokens[keyword - 1], Token::Mark('.' | ':'))
}

fn declare(outline: &mut Outline, scopes: &[Scope], name: &str, word: &str, since: &[&str], dialect: Dialect) -> Option<usize> {
    // `record` is only a keyword before a declaration: `record = 1` is not one. Its name is followed by `(` or `<`, which the
    // caller need not check, for a variable called record is not followed by a word.
    let outer = match scopes.last() {
        None => None,
        Some(scope) => Some(scope.declared?),
    };
    let nested_object = word == "object" && matches!(dialect, Dialect::Kotlin);
    let name = match outer {
        // Java starts no nested class; Kotlin's nested objects have a static main.
        Some(_) if !nested_object || scopes.len() > MAX_NESTING => return None,
        Some(_) if since.contains(&"companion") => return outer,
        Some(outer) => format!("{}${name}", outline.types[outer].name),
        None => name.to_owned(),
    };
    if dialect == Dialect::Scala && word != "object" {
        return None;
    }
    let public = since.contains(&"public") || dialect != Dialect::Java;
    outline.types.push(Declaration { name, public, has_entry: false });
    Some(outline.types.len() - 1)
}

/// Whether the word `main` before `at` declares an entry point.
fn is_entry(tokens: &[Token<'_>], at: usize, since: &[&str], scopes: &[Scope], outline: &Outline, dialect: Dialect) -> bool {
    if tokens.get(at) != Some(&Token::Mark('(')) {
        return false;
    }
    let before = |word: &str| since.contains(&word);
    let last = since.last().copied();
    match dialect {
        // The methods of an interface are public without saying so.
        Dialect::Java => last == Some("void") && before("static") && scopes.last().is_some_and(|scope| scope.declared.is_some()),
        Dialect::Groovy => before("static") && scopes.last().is_some_and(|scope| scope.declared.is_some()),
        Dialect::Scala => last == Some("def"),
        Dialect::Kotlin => {
            let owner = scopes.last().and_then(|scope| scope.declared);
            let known = owner.is_some_and(|declared| declared < outline.types.len());
            last == Some("fun") && (scopes.is_empty() || (known && before("JvmStatic")))
        }
    }
}

#[cfg(test)]
mod tests;
