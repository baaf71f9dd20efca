use super::*;

#[tokio::test]
async fn the_queue_is_bounded_and_who_gives_up_leaves_it() {
    let admission = Admission::new(1, 1);
    let inside = admission.admit(&Subject::Anonymous).await.unwrap();
    let waiting = tokio::spawn({
        let admission = admission.clone();
        async move { admission.admit(&Subject::Anonymous).await }
    });
    while admission.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(admission.admit(&Subject::Anonymous).await, Err(Denied::Full { waiting: 1, retry_after_s: 1.. })));
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!((admission.waiting(), admission.running()), (0, 1));
    drop(inside);
    assert_eq!(admission.running(), 0);
    assert!(admission.admit(&Subject::Anonymous).await.is_ok());
}

#[tokio::test]
async fn places_are_given_in_the_order_of_coming() {
    let admission = Admission::new(1, 10);
    let inside = admission.admit(&Subject::Anonymous).await.unwrap();
    let counted = admission.clone();
    let admission_waits = Admission::waiting;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for turn in 0..5 {
        let (admission, tell) = (admission.clone(), tell.clone());
        tokio::spawn(async move {
            let _place = admission.admit(&Subject::Anonymous).await;
            tell.send(turn).unwrap();
        });
        // The next comes only when this one stands in the queue.
        while admission_waits(&counted) != turn + 1 {
            tokio::task::yield_now().await;
        }
    }
    drop(inside);
    for turn in 0..5 {
        assert_eq!(told.recv().await, Some(turn));
    }
}

#[tokio::test]
async fn a_closed_door_refuses_also_those_who_wait() {
    let admission = Admission::new(1, 10);
    let _inside = admission.admit(&Subject::Anonymous).await.unwrap();
    let waiting = tokio::spawn({
        let admission = admission.clone();
        async move { admission.admit(&Subject::Anonymous).await.map(|_| ()) }
    });
    while admission.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    admission.close();
    assert!(matches!(waiting.await.unwrap(), Err(Denied::Draining { .. })));
    assert!(matches!(admission.admit(&Subject::Anonymous).await, Err(Denied::Draining { .. })));
}

fn key(name: &str) -> Subject {
    Subject::Key { id: name.to_owned(), name: name.to_owned() }
}

/// Queues executions of these subjects, one after the other, behind one that is inside; the order in which they get in.
async fn order_of(subjects: &[&'static str]) -> Vec<&'static str> {
    let admission = Admission::new(1, 100);
    let inside = admission.admit(&Subject::Anonymous).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    for (turn, name) in subjects.iter().copied().enumerate() {
        let (waits, tell) = (admission.clone(), tell.clone());
        tokio::spawn(async move {
            let _place = waits.admit(&key(name)).await.unwrap();
            tell.send(name).unwrap();
        });
        while admission.waiting() != turn + 1 {
            tokio::task::yield_now().await;
        }
    }
    drop(inside);
    let mut order = Vec::new();
    for _ in subjects {
        order.push(told.recv().await.unwrap());
    }
    order
}

#[tokio::test]
async fn who_sends_much_waits_behind_oneself_and_not_others_behind_them() {
    assert_eq!(order_of(&["a", "a", "a", "a", "b"]).await, ["a", "b", "a", "a", "a"]);
    assert_eq!(order_of(&["a", "a", "a", "b", "b", "c"]).await, ["a", "b", "c", "a", "b", "a"]);
}

#[tokio::test]
async fn a_full_queue_of_one_subject_makes_room_for_another_but_not_for_itself() {
    let admission = Admission::new(1, 4);
    let _inside = admission.admit(&key("a")).await.unwrap();
    let wait = |name| {
        let admission = admission.clone();
        tokio::spawn(async move { admission.admit(&key(name)).await.map(|_| name) })
    };
    let mut of_a = Vec::new();
    for turn in 0..4 {
        of_a.push(wait("a"));
        while admission.waiting() != turn + 1 {
            tokio::task::yield_now().await;
        }
    }
    assert!(matches!(admission.admit(&key("a")).await, Err(Denied::Full { waiting: 4, .. })));
    let _first_of_b = wait("b");
    assert!(matches!(of_a.pop().unwrap().await.unwrap(), Err(Denied::Full { .. })), "the last of a's goes");
    let _second_of_b = wait("b");
    assert!(matches!(of_a.pop().unwrap().await.unwrap(), Err(Denied::Full { .. })));
    assert_eq!(admission.waiting(), 4);
    // Two and two: neither has less.
    assert!(matches!(admission.admit(&key("b")).await, Err(Denied::Full { .. })));
    assert!(of_a.iter().all(|waits| !waits.is_finished()), "those who came first stay");
}

#[tokio::test]
async fn who_is_gone_when_their_turn_comes_holds_up_nobody() {
    let admission = Admission::new(1, 10);
    let inside = admission.admit(&key("a")).await.unwrap();
    let wait = |name| {
        let admission = admission.clone();
        tokio::spawn(async move { admission.admit(&key(name)).await.map(drop) })
    };
    let (gone, stays) = (wait("b"), wait("c"));
    while admission.waiting() != 2 {
        tokio::task::yield_now().await;
    }
    // In this order: the turn is b's, and b does not live to take it.
    drop(inside);
    gone.abort();
    assert!(stays.await.unwrap().is_ok());
    while admission.running() != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(admission.waiting(), 0);
    assert!(lock(&admission.queue).lines.is_empty());
}
