use std::net::{Ipv4Addr, SocketAddrV4};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use smoltcp::wire::{Icmpv4Packet, IpProtocol, Ipv4Packet, TcpControl, TcpPacket, UdpPacket};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::packet::sent;

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A session that may reach this machine's loopback, and the program's end of what is a device elsewhere: packets come and go just so.
fn session(bounds: Bounds, names: Vec<SocketAddr>) -> (Session, OwnedFd) {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::NONBLOCK, None).unwrap();
    let policy = Policy { allow: vec!["127.0.0.1/32".parse().unwrap()], ..Policy::default() };
    (Session::new(Egress::new(policy, bounds, names), Device::new(ours).unwrap()).unwrap(), theirs)
}

/// One turn of its task.
async fn turn(session: &mut Session) {
    let is_pending = std::future::poll_fn(|cx| Poll::Ready(session.poll(cx).is_pending())).await;
    assert!(is_pending, "it has ended");
}

fn send(program: &OwnedFd, packet: &[u8]) {
    rustix::io::write(program, packet).unwrap();
}

/// What the program is sent next, within so many turns.
async fn next(session: &mut Session, program: &OwnedFd) -> Vec<u8> {
    let mut room = [0; 2000];
    for _ in 0..2000 {
        turn(session).await;
        if let Ok(len) = rustix::io::read(program, &mut room) {
            return room[..len].to_vec();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("nothing comes");
}

fn key(from: u16, to: Ipv4Addr, port: u16) -> Key {
    Key { from, to: SocketAddrV4::new(to, port) }
}

fn flags(packet: &[u8]) -> (bool, bool, bool) {
    let ip = Ipv4Packet::new_checked(packet).unwrap();
    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
    (tcp.syn(), tcp.ack(), tcp.rst())
}

#[tokio::test]
async fn a_question_is_answered_as_the_far_end_answers() {
    let (mut session, program) = session(Bounds::default(), Vec::new());
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = sent::stream(key(5000, LOCALHOST, port), TcpControl::Syn, (100, None), &[]);
    send(&program, &asked);
    // Asked twice, as the kernel does when nobody answers: one connection.
    send(&program, &asked);
    assert_eq!(flags(&next(&mut session, &program).await), (true, true, false));
    listener.accept().await.unwrap();
    assert_eq!((session.streams.len(), session.egress.status().open), (1, 1));
    // Nobody listens any more: refused, and nothing is kept.
    drop(listener);
    send(&program, &sent::stream(key(5001, LOCALHOST, port), TcpControl::Syn, (100, None), &[]));
    let refused = loop {
        let packet = next(&mut session, &program).await;
        if TcpPacket::new_checked(Ipv4Packet::new_checked(&packet[..]).unwrap().payload()).unwrap().dst_port() == 5001 {
            break packet;
        }
    };
    assert_eq!(flags(&refused), (false, true, true));
    assert_eq!(session.streams.len(), 1);
}

#[tokio::test]
async fn what_may_not_be_reached_is_refused_at_once() {
    let (mut session, program) = session(Bounds::default(), Vec::new());
    for (to, port) in
        [([10, 0, 0, 1], 80), ([169, 254, 169, 254], 80), ([127, 0, 0, 2], 80), ([127, 0, 0, 1], 25), ([192, 0, 0, 1], 80)]
    {
        send(&program, &sent::stream(key(5000, to.into(), port), TcpControl::Syn, (100, None), &[]));
        assert_eq!(flags(&next(&mut session, &program).await), (false, true, true), "{to:?}");
        assert_eq!(session.streams.len(), 0);
    }
    send(&program, &sent::datagram(key(5000, [10, 0, 0, 1].into(), 53), b"x"));
    let said = next(&mut session, &program).await;
    let ip = Ipv4Packet::new_checked(&said[..]).unwrap();
    assert_eq!(ip.next_header(), IpProtocol::Icmp);
    assert!(Icmpv4Packet::new_checked(ip.payload()).unwrap().verify_checksum());
    assert!(session.datagrams.is_empty() && session.streams.len() == 0);
    let status = session.egress.status();
    // Of what is asked of the gateway nothing is anybody's.
    assert_eq!(status.refused, [("denied", 0), ("port", 1), ("special", 4), ("own", 0)]);
    assert_eq!((status.open, status.connections), (0, 0));
}

#[tokio::test]
async fn names_are_asked_of_the_first_that_answers() {
    let server = UdpSocket::bind((LOCALHOST, 0)).await.unwrap();
    let (mut session, program) = session(Bounds::default(), vec![server.local_addr().unwrap()]);
    send(&program, &sent::datagram(key(5000, GATEWAY, 53), b"a question"));
    let mut room = [0; 100];
    let (len, from) = loop {
        turn(&mut session).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        if let Ok(received) = server.try_recv_from(&mut room) {
            break received;
        }
    };
    assert_eq!(&room[..len], b"a question");
    server.send_to(b"an answer", from).await.unwrap();
    let said = next(&mut session, &program).await;
    let ip = Ipv4Packet::new_checked(&said[..]).unwrap();
    let udp = UdpPacket::new_checked(ip.payload()).unwrap();
    assert_eq!((ip.src_addr(), udp.src_port(), udp.dst_port(), udp.payload()), (GATEWAY, 53, 5000, &b"an answer"[..]));
    // Of the gateway's ports only that one leads there.
    send(&program, &sent::datagram(key(5000, GATEWAY, 54), b"x"));
    assert_eq!(Ipv4Packet::new_checked(&next(&mut session, &program).await[..]).unwrap().next_header(), IpProtocol::Icmp);
}

#[tokio::test]
async fn whoever_leaves_connections_behind_can_have_more() {
    let (mut session, program) = session(Bounds { connections: 4, ..Bounds::default() }, Vec::new());
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut held = Vec::new();
    for from in 5000..5010 {
        let key = key(from, LOCALHOST, port);
        let question = sent::stream(key, TcpControl::Syn, (100, None), &[]);
        // The fifth and each later one is asked twice: the first time there is no room yet.
        let first = loop {
            send(&program, &question);
            let answered = async {
                loop {
                    let packet = next(&mut session, &program).await;
                    let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
                    let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
                    if tcp.dst_port() == from && tcp.syn() {
                        break tcp.seq_number().0;
                    }
                }
            };
            if let Ok(number) = tokio::time::timeout(Duration::from_millis(200), answered).await {
                break number;
            }
        };
        held.push(listener.accept().await.unwrap());
        // The program closes its end, and the far end does not.
        send(&program, &sent::stream(key, TcpControl::Fin, (101, Some(first.wrapping_add(1))), &[]));
        for _ in 0..3 {
            turn(&mut session).await;
        }
        assert!(session.streams.len() <= 4);
    }
}

/// Whatever comes, and however much of it, is survived, and what is held of it is bounded.
#[tokio::test]
async fn nothing_that_is_sent_ends_the_task_or_grows_what_it_holds() {
    let bounds = Bounds { connections: 8, of_all: 40, new_per_second: 1_000_000 };
    let (mut session, program) = session(bounds, Vec::new());
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let (mut state, mut room) = (1u64, [0; 2000]);
    let mut random = move || {
        // Of Knuth's: the same numbers each time.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(state >> 33).unwrap()
    };
    let controls = [TcpControl::None, TcpControl::Psh, TcpControl::Syn, TcpControl::Syn, TcpControl::Fin, TcpControl::Rst];
    let mut most = (0, 0);
    for round in 0..20_000 {
        let to = [LOCALHOST, LOCALHOST, GATEWAY, Ipv4Addr::from_bits(random() | 10 << 24)][random() as usize % 4];
        let key = key(5000 + u16::try_from(random() % 50).unwrap(), to, if random() % 4 == 0 { 9 } else { port });
        let payload = vec![0; random() as usize % 1200];
        let numbers = (random().cast_signed(), (random() % 2 == 0).then(|| random().cast_signed()));
        let mut packet = match random() % 3 {
            0 => sent::datagram(key, &payload),
            _ => sent::stream(key, controls[random() as usize % controls.len()], numbers, &payload),
        };
        // Some are spoilt, some of those in a way that their sums hide.
        if random() % 3 == 0 {
            let at = random() as usize % packet.len().min(60);
            packet[at] = random().to_le_bytes()[0];
        }
        if random() % 8 == 0 {
            packet.truncate(random() as usize % packet.len());
        }
        if packet.len() >= 20 && random() % 2 == 0 {
            Ipv4Packet::new_unchecked(&mut packet[..]).fill_checksum();
        }
        // An empty one would be the device's end.
        if !packet.is_empty() {
            // A full device drops, too.
            let _dropped = rustix::io::write(&program, &packet);
        }
        if round % 16 == 0 {
            turn(&mut session).await;
            while rustix::io::read(&program, &mut room).is_ok() {}
            assert!(session.streams.len() <= 8 && session.datagrams.len() <= 40);
            most = (most.0.max(session.streams.len()), most.1.max(session.datagrams.len()));
            tokio::task::yield_now().await;
        }
    }
    accepting.abort();
    assert!(most.0 > 1 && most.1 > 1, "nothing of it was carried: {most:?}");
}
