//! Linux signal numbers and their names (signal(7), x86_64 and aarch64), the 62 that a client may name:
//! 1..=31, and the real-time ones from 34 (32 and 33 belong to the C library).

const STANDARD: [&str; 31] = [
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2",
    "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG",
    "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGIO", "SIGPWR", "SIGSYS",
];

/// The name of a signal number, if it has one.
pub fn name(number: i32) -> Option<String> {
    match number {
        1..=31 => usize::try_from(number - 1).ok().map(|i| STANDARD[i].to_owned()),
        34 => Some("SIGRTMIN".into()),
        35..=49 => Some(format!("SIGRTMIN+{}", number - 34)),
        50..=63 => Some(format!("SIGRTMAX-{}", 64 - number)),
        64 => Some("SIGRTMAX".into()),
        _ => None,
    }
}

/// The number of a signal's name, exactly as [`name`] writes it.
pub fn number(text: &str) -> Option<i32> {
    (1..=64).find(|&n| name(n).as_deref() == Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_its_number() {
        let named: Vec<i32> = (0..=65).filter(|&n| name(n).is_some()).collect();
        assert_eq!(named.len(), 62);
        for n in named {
            assert_eq!(name(n).and_then(|text| number(&text)), Some(n));
        }
        assert_eq!(name(11).as_deref(), Some("SIGSEGV"));
        assert_eq!(name(49).as_deref(), Some("SIGRTMIN+15"));
        assert_eq!(name(50).as_deref(), Some("SIGRTMAX-14"));
        assert_eq!(number("SIGFOO"), None);
    }
}
