//! What the platform tells about messages it took and about consents: fields become events.
//!
//! Sources: the platform's pages on template messages (`TEMPLATESENDJOBFINISH`), mass messages
//! (`MASSSENDJOBFINISH`) and subscription notices (`subscribe_msg_popup_event`,
//! `subscribe_msg_change_event`, `subscribe_msg_sent_event`).

use super::message::clean;
use super::xml::Fields;
use crate::journey::event::{Event, Report};

/// Longest id of a message or a template kept, in bytes.
const ID_BYTES_MAX: usize = 64;
/// Longest status kept, in bytes.
const STATUS_BYTES_MAX: usize = 200;

/// The event of that lower-case name, if it is one of these.
pub(super) fn read(name: &str, fields: &Fields) -> Option<Event> {
    match name {
        // Whoever refuses in the popup takes nothing back that was given before.
        "subscribe_msg_popup_event" => {
            consents(fields, |status| (status == "accept").then_some(true))
        }
        "subscribe_msg_change_event" => consents(fields, |status| Some(status == "accept")),
        "subscribe_msg_sent_event" => notice_sent(fields),
        "templatesendjobfinish" => finished(fields, |status| Some(status == "success")),
        // Counts over a whole audience; whether one follower got it is not said, unless nobody did.
        "masssendjobfinish" => {
            finished(fields, |status| (status != "send success").then_some(false))
        }
        _ => None,
    }
}

/// Whether the event of that lower-case name is about no follower: its `FromUserName` is the sender.
pub(super) fn is_about_nobody(name: &str) -> bool {
    name == "masssendjobfinish"
}

fn consents(fields: &Fields, given: impl Fn(&str) -> Option<bool>) -> Option<Event> {
    let templates: Vec<_> = fields
        .records("TemplateId")
        .into_iter()
        .filter_map(|record| {
            let template = clean(record.get("TemplateId")?, ID_BYTES_MAX);
            let given = given(record.get("SubscribeStatusString")?)?;
            (!template.is_empty()).then_some((template, given))
        })
        .collect();
    (!templates.is_empty()).then_some(Event::ConsentsChanged { templates })
}

fn notice_sent(fields: &Fields) -> Option<Event> {
    let records = fields.records("TemplateId");
    let record = records.first()?;
    let status = record.get("ErrorStatus").unwrap_or("");
    let code = record.get("ErrorCode").unwrap_or("");
    let delivered = code == "0";
    let detail = if delivered {
        String::new()
    } else {
        clean(&format!("{code} {status}"), STATUS_BYTES_MAX)
    };
    Some(Event::Reported(Report {
        reference: clean(record.get("MsgID")?, ID_BYTES_MAX),
        delivered: Some(delivered),
        template: Some(clean(record.get("TemplateId")?, ID_BYTES_MAX)),
        detail,
    }))
}

fn finished(fields: &Fields, delivered: impl Fn(&str) -> Option<bool>) -> Option<Event> {
    // The platform writes both spellings.
    let reference = fields.get("MsgID").or_else(|| fields.get("MsgId"))?;
    let status = fields.get("Status").unwrap_or("").trim();
    let counts = ["TotalCount", "FilterCount", "SentCount", "ErrorCount"];
    let counted: Vec<_> = counts
        .iter()
        .filter_map(|name| Some(format!("{name} {}", fields.get(name)?)))
        .collect();
    let detail = [&[status.to_owned()], counted.as_slice()]
        .concat()
        .join(", ");
    Some(Event::Reported(Report {
        reference: clean(reference.trim(), ID_BYTES_MAX),
        delivered: delivered(status),
        template: None,
        detail: clean(&detail, STATUS_BYTES_MAX),
    }))
}

#[cfg(test)]
mod tests {
    use super::super::message::read;
    use super::super::xml::Format;
    use super::*;
    use crate::journey::event::Arrival;

    fn arrival(rest: &str) -> Arrival {
        let body = format!(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName><FromUserName><![CDATA[o1]]></FromUserName>\
             <CreateTime>1610969440</CreateTime><MsgType><![CDATA[event]]></MsgType>{rest}</xml>"
        );
        read(body.as_bytes(), Format::Xml).expect(&body).arrival
    }

    fn reported(arrival: &Arrival) -> &Report {
        match &arrival.event {
            Event::Reported(report) => report,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_platforms_samples_of_consents_are_read_whole() {
        let list = |template: &str, status: &str| {
            format!(
                "<List><TemplateId><![CDATA[{template}]]></TemplateId>\
                 <SubscribeStatusString><![CDATA[{status}]]></SubscribeStatusString>\
                 <PopupScene>2</PopupScene></List>"
            )
        };
        let (first, second) = (
            list("VRR0UEO9VJOLs0MHlU0OilqX6MVFDwH3_3gz3Oc0NIc", "accept"),
            list("9nLIlbOQZC5Y89AZteFEux3WCXRRRG5Wfzkpssu4bLI", "reject"),
        );
        let popup = format!(
            "<Event><![CDATA[subscribe_msg_popup_event]]></Event>\
             <SubscribeMsgPopupEvent>{first}{second}</SubscribeMsgPopupEvent>"
        );
        let accepted = "VRR0UEO9VJOLs0MHlU0OilqX6MVFDwH3_3gz3Oc0NIc".to_owned();
        let templates = vec![(accepted, true)];
        let arrival = arrival(&popup);
        assert_eq!(arrival.event, Event::ConsentsChanged { templates });
        assert_eq!(arrival.openid, "o1");
    }

    #[test]
    fn the_same_consents_come_as_json() {
        let body = r#"{"ToUserName":"gh_1","FromUserName":"o1","CreateTime":1610969440,
            "MsgType":"event","Event":"subscribe_msg_change_event","SubscribeMsgChangeEvent":
            {"List":[{"TemplateId":"a","SubscribeStatusString":"reject"},
                     {"TemplateId":"b","SubscribeStatusString":"accept"}]}}"#;
        let read = read(body.as_bytes(), Format::Json).unwrap().arrival;
        let templates = vec![("a".to_owned(), false), ("b".to_owned(), true)];
        assert_eq!(read.event, Event::ConsentsChanged { templates });
    }

    #[test]
    fn a_notice_that_was_sent_names_its_template_and_its_fate() {
        let sent = |code: &str, status: &str| {
            arrival(&format!(
                "<Event>subscribe_msg_sent_event</Event><SubscribeMsgSentEvent><List>\
                 <TemplateId>T</TemplateId><MsgID>1700827132819554304</MsgID>\
                 <ErrorCode>{code}</ErrorCode><ErrorStatus>{status}</ErrorStatus>\
                 </List></SubscribeMsgSentEvent>"
            ))
        };
        let good = sent("0", "success");
        assert_eq!(reported(&good).reference, "1700827132819554304");
        assert_eq!(reported(&good).delivered, Some(true));
        assert_eq!(reported(&good).template.as_deref(), Some("T"));
        let bad = sent("43101", "user refuse");
        assert_eq!(reported(&bad).delivered, Some(false));
        assert_eq!(reported(&bad).detail, "43101 user refuse");
    }

    #[test]
    fn a_template_messages_end_is_about_its_follower() {
        for (status, delivered) in [
            ("success", true),
            ("failed:user block", false),
            ("failed: system failed", false),
        ] {
            let rest = format!(
                "<Event>TEMPLATESENDJOBFINISH</Event><MsgID>200163836</MsgID>\
                 <Status><![CDATA[{status}]]></Status>"
            );
            let arrival = arrival(&rest);
            assert_eq!(arrival.openid, "o1");
            assert_eq!(reported(&arrival).reference, "200163836");
            assert_eq!(reported(&arrival).delivered, Some(delivered));
        }
    }

    #[test]
    fn a_mass_messages_end_is_about_nobody_and_only_counts() {
        let mass = |status: &str| {
            arrival(&format!(
                "<Event>MASSSENDJOBFINISH</Event><MsgID>3147483661</MsgID><Status>{status}</Status>\
                 <TotalCount>8</TotalCount><FilterCount>7</FilterCount><SentCount>6</SentCount>\
                 <ErrorCount>1</ErrorCount>"
            ))
        };
        let good = mass("send success");
        assert_eq!(
            (good.openid.as_str(), reported(&good).delivered),
            ("", None)
        );
        assert_eq!(
            reported(&good).detail,
            "send success, TotalCount 8, FilterCount 7, SentCount 6, ErrorCount 1"
        );
        assert_eq!(reported(&mass("err(30003)")).delivered, Some(false));
    }
}
