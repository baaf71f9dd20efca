//! The network of a sandbox whose program may have one: a namespace of its own, which no other sandbox shares, with one device in it.
//! What programs send comes out of that device's descriptor, packet by packet, and what is written there they receive. The server has
//! it, and decides what becomes of the packets (crates/egress): nothing of the host's network is changed, and nothing leads there.

use std::{
    ffi::CStr,
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    thread::{CapabilitySet, LinkNameSpaceType, UnshareFlags, capabilities, move_into_link_name_space},
};

use crate::sys;

/// Of the range that is nobody's on the internet and that no network inside is numbered with (RFC 7335): the sandbox, and whom it
/// takes for its gateway and asks for names.
pub const SANDBOX_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 2);
/// See [`SANDBOX_ADDRESS`].
pub const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 1);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 248);

/// What programs see the device as.
const NAME: &CStr = c"net0";

/// Where network devices are made: the host's `/dev/net`, held by a descriptor, for the runner sees nothing of the host.
pub(crate) struct Devices(OwnedFd);

/// A process that is in a new network namespace for a moment.
pub(crate) struct Away {
    pub(crate) device: OwnedFd,
    home: OwnedFd,
}

impl Devices {
    /// Takes hold of them while the host can be seen. The error says why there can be none, and what to do about it.
    pub(crate) fn find() -> Result<Self, String> {
        let missing = |errno| {
            let error = io::Error::from(errno);
            format!("/dev/net/tun cannot be used ({error}): load the kernel's module tun, or give the container the device")
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let devices = Self(open_tree(CWD, "/dev/net", flags).map_err(missing)?);
        // No device is made of it: to take one down again is a wait that no start needs.
        devices.open().map_err(missing)?;
        let rights = capabilities(None).map_err(missing)?.effective;
        if rights.contains(CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN) {
            Ok(devices)
        } else {
            Err("network devices cannot be made: grant CAP_NET_ADMIN".to_owned())
        }
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        openat(&self.0, "tun", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
    }

    /// Puts this process into a new network namespace, with a device. Fails as if nothing had happened; where that cannot be, this
    /// process ends.
    pub(crate) fn go(&self) -> io::Result<Away> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let home = sys::network_namespace_of(&socket)?;
        sys::unshare(UnshareFlags::NEWNET)?;
        match self.make() {
            Ok(device) => Ok(Away { device, home }),
            Err(error) => {
                back(&home);
                Err(error)
            }
        }
    }

    /// Makes a device in the namespace that this process is in. With its last descriptor it ends.
    fn make(&self) -> io::Result<OwnedFd> {
        let device = self.open()?;
        sys::make_tun(&device, NAME)?;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        sys::set_address(&socket, NAME, SANDBOX_ADDRESS, NETMASK)?;
        sys::bring_up(&socket, NAME)?;
        sys::add_default_route(&socket, GATEWAY_ADDRESS)?;
        Ok(device)
    }
}

impl Away {
    /// Back where the process was. Gives the device that was left behind.
    pub(crate) fn back(self) -> OwnedFd {
        back(&self.home);
        self.device
    }
}

fn back(home: &OwnedFd) {
    if let Err(error) = move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network)) {
        // Never another sandbox from here, which would have this one's network.
        eprintln!("greenroom runner: a slot cannot come back from a sandbox's network and ends: {error}");
        sys::exit_now(1)
    }
}
