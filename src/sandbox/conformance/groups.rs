//! The platform's test accounts: five groups, of which it picks one at random. Groups 2 to 5 exist
//! since 2021-01-18; the numbers are those of the page 全网发布接入检测说明.

use crate::sandbox::component::AuthorizerKind;

/// Number of the last group.
pub const GROUPS_MAX: u8 = 5;

/// Who writes to the test accounts.
pub(super) const TESTER: &str = "ozy4qt5QUADNXORxCVipKMV9dss0";

#[derive(Debug)]
pub(super) struct TestAccount {
    pub(super) app_id: &'static str,
    pub(super) original_id: &'static str,
    pub(super) kind: AuthorizerKind,
}

#[derive(Debug)]
pub(super) struct Group {
    pub(super) official: TestAccount,
    pub(super) mini: TestAccount,
}

const fn group(official: [&'static str; 2], mini: [&'static str; 2]) -> Group {
    Group {
        official: TestAccount {
            app_id: official[0],
            original_id: official[1],
            kind: AuthorizerKind::OfficialAccount,
        },
        mini: TestAccount {
            app_id: mini[0],
            original_id: mini[1],
            kind: AuthorizerKind::MiniProgram,
        },
    }
}

pub(super) const GROUPS: [Group; GROUPS_MAX as usize] = [
    group(
        ["wx570bc396a51b8ff8", "gh_3c884a361561"],
        ["wxd101a85aa106f53e", "gh_8dad206e9538"],
    ),
    group(
        ["wx9252c5e0bb1836fc", "gh_c0f28a78b318"],
        ["wxc39235c15087f6f3", "gh_905ae9d01059"],
    ),
    group(
        ["wx8e1097c5bc82cde9", "gh_3f222ed8d140"],
        ["wx7720d01d4b2a4500", "gh_393666f1fdf4"],
    ),
    group(
        ["wx14550af28c71a144", "gh_26128078e9ab"],
        ["wx05d483572dcd5d8b", "gh_39abb5d4e1b7"],
    ),
    group(
        ["wxa35b9c23cfe664eb", "gh_2b3713f184a6"],
        ["wx5910277cae6fd970", "gh_7818dcb60240"],
    ),
];
