//! The plan that the first process of a sandbox (init/main.rs) is given.

use std::io;

use crate::{
    layout::{self, CRASH_AT, FILTER_LEN, FLAGS, INIT_UID, INODES, PLACE, PLAN_BYTES, SIZE, UID},
    message::Prepare,
    step::{Step, crash_at},
};

// A step that comes or goes moves the others.
const _: () = assert!(
    layout::step::PARENT_DEATH == Step::ParentDeath as u8
        && layout::step::LOOPBACK == Step::Loopback as u8
        && layout::step::MOUNT_DISK == Step::MountDisk as u8
        && layout::step::MOUNT_PROC == Step::MountProc as u8
        && layout::step::MASK_PROC == Step::MaskProc as u8
        && layout::step::CLONE_WORKER == Step::CloneWorker as u8
        && layout::step::STDIO == Step::Stdio as u8
        && layout::step::SET_UID == Step::SetUid as u8
        && layout::step::LANDLOCK == Step::Landlock as u8
        && layout::step::SECCOMP == Step::Seccomp as u8
        && layout::step::READY == Step::Ready as u8
        && layout::step::READ_JOB == Step::ReadJob as u8
        && layout::step::WRITE_FILES == Step::WriteFiles as u8
        && layout::step::WORKING_DIRECTORY == Step::WorkingDirectory as u8
        && layout::step::RESOURCE_LIMITS == Step::ResourceLimits as u8
        && layout::step::AWAIT_GO == Step::AwaitGo as u8
        && layout::step::EXEC == Step::Exec as u8
        && layout::step::REAP == Step::Reap as u8
);

const _: () = assert!(matches!(layout::IGNORED_SIGNALS, [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE]));

/// For one sandbox: [`layout`]'s flags, the program's uid, init's, and how many instructions the filter has.
pub(crate) fn encode(prepare: &Prepare, numbers: [u32; 4]) -> io::Result<[u8; PLAN_BYTES]> {
    let mut plan = [0; PLAN_BYTES];
    for (at, number) in [FLAGS, UID, INIT_UID, FILTER_LEN].into_iter().zip(numbers) {
        plan[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
    plan[CRASH_AT] = crash_at().map_or(layout::NO_STEP, |step| step as u8);
    let (size, inodes) = (prepare.disk_bytes.to_string(), prepare.disk_inodes.to_string());
    for (text, from, to) in [(size.as_str(), SIZE, INODES), (&inodes, INODES, PLACE), (prepare.place.path(), PLACE, PLAN_BYTES)] {
        if text.len() >= to - from {
            return Err(rustix::io::Errno::NAMETOOLONG.into());
        }
        plan[from..from + text.len()].copy_from_slice(text.as_bytes());
    }
    Ok(plan)
}

#[cfg(test)]
#[path = "../init/message.rs"]
mod there;

#[cfg(test)]
#[path = "../init/errors.rs"]
mod errors;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Place, Status};

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let disk = greenroom_core::DiskLimits { bytes: u64::MAX, inodes: 5 };
        let prepare = Prepare { continues: true, place: Place::Workspace, ..Prepare::fresh(disk) };
        let bytes = encode(&prepare, [layout::CONTINUES | layout::OWN_UIDS, 70_000, 69_999, 300]).unwrap();
        let plan = there::Plan::received(bytes, PLAN_BYTES).unwrap();
        assert!(plan.has(layout::CONTINUES) && plan.has(layout::OWN_UIDS) && !plan.has(layout::LOOPBACK));
        assert_eq!((plan.uid(), plan.init_uid(), plan.crash_at()), (70_000, 69_999, layout::NO_STEP));
        assert_eq!(plan.filter_len(), 300);
        for (text, expected) in
            [(plan.size(), &b"18446744073709551615"[..]), (plan.inodes(), b"5"), (plan.place(), b"/box/submission")]
        {
            assert_eq!(text.split(|byte| *byte == 0).next(), Some(expected));
        }
        assert!(there::Plan::received(bytes, PLAN_BYTES - 1).is_none());
        assert!(there::Plan::received([1; PLAN_BYTES], PLAN_BYTES).is_none());
    }

    #[test]
    fn errors_are_called_what_the_standard_library_calls_them() {
        for (errno, text) in errors::TEXTS {
            assert_eq!(io::Error::from_raw_os_error(errno).to_string(), format!("{} (os error {errno})", errors::text_of(errno)));
            assert_eq!(errors::text_of(errno), text);
        }
    }

    #[test]
    fn messages_are_as_the_first_process_writes_them() {
        let encoded = |status: &Status| postcard::to_stdvec(status).unwrap();
        assert_eq!(encoded(&Status::Ready), there::Status::ready().bytes());
        assert_eq!(encoded(&Status::Mounted), there::Status::mounted().bytes());
        assert_eq!(encoded(&Status::Sealed), there::Status::sealed().bytes());
        assert_eq!(encoded(&Status::Exec(u64::MAX)), there::Status::exec(u64::MAX).bytes());
        for errno in [0, 1, 63, 64, -1, i32::MAX, i32::MIN] {
            let failed = there::Status::failed(layout::step::MASK_PROC, errno);
            assert_eq!(encoded(&Status::Failed(Step::MaskProc, errno)), failed.bytes());
            for cpu_us in [0, 127, 128, 1 << 40, u64::MAX] {
                assert_eq!(encoded(&Status::Exited { status: errno, cpu_us }), there::Status::exited(errno, cpu_us).bytes());
            }
        }
    }
}
