use std::{collections::BTreeMap, thread};

fn main() {
    let parts = BTreeMap::from([(2, "K"), (1, "O")]);
    let answer = thread::spawn(move || parts.into_values().collect::<String>());
    println!("{}", answer.join().unwrap());
}
