//! Profile rootless (and, at the end, restricted): the program has the uid of whoever keeps it, and where the kernel has no Landlock only the mounts, the filter and what
//! our own processes let others see of them are left.

use greenroom_backends::Local;
use greenroom_core::Verdict;
use libtest_mimic::Failed;

use crate::{job, only, sh, text};

pub async fn a_program_cannot_look_into_its_init(local: Local) -> Result<(), Failed> {
    assert_eq!(local.host().landlock_abi, 0, "Landlock is there");
    let look = "for name in environ maps mem status cmdline; do cat /proc/1/$name 2>/dev/null && echo reads $name; done
        (exec 3<>/proc/1/mem) 2>/dev/null && echo opens mem
        for name in fd root cwd fd/0; do ls -l /proc/1/$name/ 2>/dev/null; done
        ls /proc | grep -x 1
        echo end";
    let finished = local.run(job(vec![sh(look)])).await?;
    assert_eq!(text(&only(&finished).output.stdout), "end\n");
    Ok(())
}

pub async fn what_a_stage_makes_beside_its_files_is_in_no_later_stages_way(local: Local) -> Result<(), Failed> {
    let first = "mkdir -p /run/disk/tmp-run/x /run/disk/shm-run/x 2>/dev/null; ls /run/disk/submission 2>/dev/null
        echo mine > kept; echo lost > /tmp/lost; echo lost > /dev/shm/lost; echo first";
    let finished = local.run(job(vec![sh(first), sh("cat kept; ls -A /tmp /dev/shm; echo x > /tmp/x && echo second")])).await?;
    let outputs: Vec<_> = finished.outcome.stages.iter().map(|stage| (stage.verdict, text(&stage.output.stdout))).collect();
    assert_eq!(outputs[0], (Verdict::Ok, "first\n".into()));
    assert_eq!(outputs[1], (Verdict::Ok, "mine\n/dev/shm:\n\n/tmp:\nsecond\n".into()));
    Ok(())
}

/// A reload: the runner before it lets its jobs finish. In profile restricted both have their workspaces below the same directory.
pub async fn two_runners_at_a_time_leave_each_others_files_alone(local: Local) -> Result<(), Failed> {
    let start = |seconds: &str| {
        let stages = vec![sh(&format!("echo kept > file; sleep {seconds}; cat file")), sh("cat file; echo second")];
        let local = local.clone();
        tokio::spawn(async move { local.run(job(stages)).await })
    };
    let old = start("1.5");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    local.reload(crate::config(crate::profiles::profile())).await?;
    let new = start("2.5");
    for running in [old, new] {
        let outputs = running.await??.outcome.stages;
        let outputs: Vec<_> = outputs.iter().map(|stage| (text(&stage.output.stdout), text(&stage.output.stderr))).collect();
        assert_eq!(outputs, [("kept\n".into(), String::new()), ("kept\nsecond\n".into(), String::new())]);
    }
    Ok(())
}
