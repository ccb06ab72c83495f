//! Sequences that are edited, removed and brought back while followers are inside.

use super::WELCOME;
use crate::support::{Town, hours, minutes};

#[tokio::test]
async fn an_edit_leaves_who_is_inside_on_their_version_and_gives_new_ones_the_new() {
    let mut town = Town::open(&[WELCOME]).await;
    town.follow("ann").await;
    town.pass(minutes(5)).await;
    let edited = WELCOME
        .replace("text: guide", "text: better")
        .replace("  - { id: offer, after: 23h, say: { text: offer } }\n", "");
    town.publish(&[&edited]).await;
    town.follow("bob").await;
    town.pass(hours(1)).await;
    town.restart().await;
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    assert_eq!(town.heard("bob"), ["hello", "better"]);
    town.end().await;
}

#[tokio::test]
async fn a_removed_sequence_lets_nobody_in_and_lets_who_is_inside_go_on() {
    let mut town = Town::open(&[WELCOME]).await;
    town.follow("ann").await;
    town.pass(minutes(5)).await;
    town.publish(&[]).await;
    town.follow("bob").await;
    town.restart().await;
    town.pass(hours(24)).await;
    assert_eq!(town.heard("ann"), ["hello", "guide", "offer"]);
    assert_eq!(town.heard("bob"), [""; 0]);
    assert_eq!(town.passages("bob").await, 0);
    town.end().await;
}

#[tokio::test]
async fn a_sequence_that_is_changed_back_is_its_old_version_again() {
    let mut town = Town::open(&[WELCOME]).await;
    let edited = WELCOME.replace("text: hello", "text: hey");
    town.publish(&[&edited]).await;
    town.follow("ann").await;
    town.publish(&[WELCOME]).await;
    town.follow("bob").await;
    town.pass(minutes(1)).await;
    assert_eq!(town.heard("ann"), ["hey"]);
    assert_eq!(town.heard("bob"), ["hello"]);
    assert_eq!(town.count("sequence_versions").await, 2);
    town.end().await;
}

#[tokio::test]
async fn an_edit_is_the_same_sequence_to_the_rule_for_entering_again() {
    let mut town = Town::open(&[WELCOME]).await;
    town.follow("ann").await;
    town.pass(minutes(1)).await;
    town.unfollow("ann").await;
    town.pass(minutes(1)).await;
    town.publish(&[&WELCOME.replace("text: hello", "text: hey")])
        .await;
    town.follow("ann").await;
    town.pass(hours(1)).await;
    assert_eq!(town.heard("ann"), ["hello"]);
    town.end().await;
}
