use std::time::{Duration, Instant};

use greenroom_backends::{FILE_BYTES_MAX, FileError, FileKind, ListDepth, Session};
use greenroom_pool::PoolKind::PythonLts;
use libtest_mimic::Failed;

use super::{Sessions, Tested, made, printed, session, shown, spec, value};

async fn read(session: &Session, path: &str) -> Result<Vec<u8>, FileError> {
    session.files().read(path).await?.rest().await
}

async fn names(session: &Session, path: &str, depth: ListDepth) -> Result<Vec<String>, Failed> {
    let listed = session.files().list(path, depth).await?;
    let name = |info: greenroom_backends::FileInfo| match info.directory.as_str() {
        "" => info.name,
        directory => format!("{directory}/{}", info.name),
    };
    Ok(listed.into_iter().map(name).collect())
}

pub async fn files_come_and_go_under_their_names(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let files = python.files();
    assert!(files.list("", ListDepth::All).await?.is_empty());
    let written = files.write("a.txt", b"hello".to_vec()).await?;
    assert_eq!((written.name.as_str(), written.directory.as_str(), written.kind, written.size), ("a.txt", "", FileKind::File, 5));
    files.write("deep/er/b.txt", b"b".to_vec()).await?;
    files.write("a.txt", b"again".to_vec()).await?;
    assert_eq!(read(&python, "a.txt").await?, b"again");
    assert_eq!(names(&python, "", ListDepth::One).await?, ["a.txt", "deep"]);
    assert_eq!(names(&python, "", ListDepth::All).await?, ["a.txt", "deep", "deep/er", "deep/er/b.txt"]);
    assert_eq!(names(&python, "deep/", ListDepth::One).await?, ["deep/er"]);
    let stat = files.stat("deep").await?;
    assert_eq!((stat.kind, stat.size), (FileKind::Directory, 0));
    assert!(files.stat("a.txt").await?.modified_unix_ns > 1_700_000_000_000_000_000);
    let all: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    files.write("large", all.clone()).await?;
    assert_eq!(read(&python, "large").await?, all);
    assert!(matches!(files.delete("deep").await, Err(FileError::IsADirectory)));
    assert!(matches!(files.read("deep").await, Err(FileError::IsADirectory)));
    assert!(matches!(files.write("deep", Vec::new()).await, Err(FileError::IsADirectory)));
    assert!(matches!(files.write("a.txt/x", Vec::new()).await, Err(FileError::NotADirectory)));
    files.delete("a.txt").await?;
    assert!(matches!(files.delete("a.txt").await, Err(FileError::NotFound)));
    assert!(matches!(files.read("a.txt").await, Err(FileError::NotFound)));
    for path in ["", "/etc/passwd", "../x", "a\0b", ".", "x/.."] {
        assert!(matches!(files.read(path).await, Err(FileError::Path(_))), "{path:?}");
        assert!(matches!(files.write(path, Vec::new()).await, Err(FileError::Path(_))), "{path:?}");
    }
    Ok(())
}

pub async fn a_file_in_place_of_a_link_replaces_the_link(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    value(&python, "import os; open('target', 'w').write('kept'); os.symlink('target', 'link'); os.symlink('/tmp', 'd')").await?;
    python.files().write("link", b"new".to_vec()).await?;
    assert_eq!(
        value(&python, "os.path.islink('link'), open('link').read(), open('target').read()").await?,
        shown("(False, 'new', 'kept')")
    );
    assert!(matches!(python.files().write("d/x", Vec::new()).await, Err(FileError::NotRegular | FileError::NotADirectory)));
    assert_eq!(value(&python, "os.listdir('/tmp')").await?, shown("[]"));
    python.files().delete("d").await?;
    // A file that is given up leaves nothing, and one that is not finished is not there.
    let mut begun = python.files().create("begun").await?;
    begun.write(vec![0; 1000]).await?;
    assert_eq!(value(&python, "sorted(os.listdir())").await?, shown("['link', 'target']"));
    drop(begun);
    Ok(())
}

pub async fn what_a_cell_writes_is_seen_and_what_is_written_is_the_cells(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    value(&python, "import os; open('/mnt/data/from.txt', 'w').write('cell')").await?;
    assert_eq!(read(&python, "from.txt").await?, b"cell");
    python.files().write("made/to.txt", b"server".to_vec()).await?;
    let own = "s = os.stat('made/to.txt'); d = os.stat('made')\n(s.st_uid == d.st_uid == os.getuid(), oct(s.st_mode), s.st_nlink)";
    assert_eq!(value(&python, own).await?, shown("(True, '0o100644', 1)"));
    assert_eq!(
        value(&python, "open('made/to.txt', 'a').write('+'); os.rename('made', 'moved'); open('moved/to.txt').read()").await?,
        shown("'server+'")
    );
    value(&python, "os.chmod('from.txt', 0)").await?;
    assert_eq!(read(&python, "from.txt").await?, b"cell");
    Ok(())
}

pub async fn nothing_is_followed_that_leaves_the_session(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let make = "import os
os.symlink('/etc/hostname', 'absolute'); os.symlink('/proc/self/root/etc/hostname', 'magic'); os.symlink('/dev/zero', 'zero')
os.symlink('/etc', 'd'); os.symlink('a', 'b'); os.symlink('b', 'a'); os.symlink('../../etc/hostname', 'up')
open('inside', 'w').write('in'); os.symlink('inside', 'in')";
    value(&python, make).await?;
    for path in ["absolute", "magic", "zero", "d/hostname", "a", "up", "in"] {
        assert!(matches!(python.files().read(path).await, Err(FileError::NotRegular | FileError::NotADirectory)), "{path}");
        assert!(!matches!(python.files().stat(path).await, Ok(info) if info.size > 0), "{path}");
    }
    assert_eq!(names(&python, "", ListDepth::All).await?, ["inside"]);
    assert!(python.files().list("d", ListDepth::All).await.is_err());
    // A file of the system cannot be linked into the session, and no other session's is there to be linked.
    assert_eq!(printed(&python, "!ln /usr/bin/env out 2>/dev/null || echo refused").await?, "refused\n");
    Ok(())
}

pub async fn pipes_sockets_and_devices_are_refused_at_once(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let make = "import os, socket\nos.mkfifo('fifo'); s = socket.socket(socket.AF_UNIX); s.bind('socket')\n!mknod device c 1 5 2>/dev/null; true";
    value(&python, make).await?;
    let begun = Instant::now();
    for path in ["fifo", "socket"] {
        assert!(matches!(python.files().read(path).await, Err(FileError::NotRegular)), "{path}");
        assert!(matches!(python.files().stat(path).await, Err(FileError::NotRegular)), "{path}");
    }
    assert!(python.files().read("device").await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(names(&python, "", ListDepth::All).await?.is_empty());
    // Replaced and deleted all the same.
    python.files().write("fifo", b"file".to_vec()).await?;
    assert_eq!(read(&python, "fifo").await?, b"file");
    python.files().delete("socket").await?;
    Ok(())
}

pub async fn a_sparse_file_is_not_read_and_a_full_disk_is_said(sessions: Sessions) -> Tested {
    let mut roomy = spec(PythonLts);
    roomy.limits.file_size_bytes = 2 << 40;
    let python = made(&sessions, &roomy).await?;
    value(&python, "import os; f = open('sparse', 'w'); f.truncate(1 << 40)").await?;
    assert!(matches!(python.files().read("sparse").await, Err(FileError::TooLarge)));
    assert_eq!(python.files().stat("sparse").await?.size, 1 << 40);
    assert!(matches!(python.files().write("large", vec![1; 40 << 20]).await, Err(FileError::Full)));
    let mut endless = python.files().create("endless").await?;
    let pieces = FILE_BYTES_MAX / (1 << 20) + 1;
    let mut result = Ok(());
    for _ in 0..pieces {
        result = endless.write(vec![0; 1 << 20]).await;
        if result.is_err() {
            break;
        }
    }
    assert!(matches!(result, Err(FileError::Full | FileError::TooLarge)));
    drop(endless);
    // What did not fit takes no room.
    python.files().write("fits", vec![1; 20 << 20]).await?;
    assert_eq!(names(&python, "", ListDepth::One).await?, ["fits", "sparse"]);
    Ok(())
}

pub async fn names_of_every_kind_are_listed(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let make = "import os
open(b'\\xc3.txt', 'w'); open('a\\nb\\r\\nX-Evil: 1', 'w'); open('..x', 'w'); open('\u{fc}', 'w')
d = '.'
for i in range(14): d += '/' + 'x' * 200
os.makedirs(d)";
    value(&python, make).await?;
    let top = names(&python, "", ListDepth::One).await?;
    assert!(top.contains(&"\u{fffd}.txt".to_owned()) && top.contains(&"a\nb\r\nX-Evil: 1".to_owned()), "{top:?}");
    assert!(top.contains(&"..x".to_owned()) && top.contains(&"\u{fc}".to_owned()), "{top:?}");
    assert_eq!(read(&python, "a\nb\r\nX-Evil: 1").await?, b"");
    assert!(names(&python, "", ListDepth::All).await?.len() > 10);
    Ok(())
}

pub async fn a_swap_of_link_and_file_never_shows_what_is_outside(sessions: Sessions) -> Tested {
    let python = session(&sessions, PythonLts).await?;
    let swap = "import os, threading
open('real', 'w').write('inside'); os.symlink('/etc/passwd', 'link')
os.mkdir('dir'); open('dir/passwd', 'w').write('inside'); os.symlink('/etc', 'linked')
on = True
def pair(a, b, name):
    while on:
        for source in (a, b):
            try: os.rename(source, name)
            except OSError: pass
            try: os.rename(name, source)
            except OSError: pass
threads = [threading.Thread(target=pair, args=x, daemon=True) for x in (('real', 'link', 'out'), ('dir', 'linked', 'd'))]
for t in threads: t.start()";
    value(&python, swap).await?;
    let mut seen = 0;
    for _ in 0..2000 {
        for path in ["out", "d/passwd"] {
            if let Ok(content) = read(&python, path).await {
                assert_eq!(content, b"inside", "{path}");
                seen += 1;
            }
        }
    }
    value(&python, "on = False").await?;
    assert!(seen > 0, "the race was never met");
    Ok(())
}
