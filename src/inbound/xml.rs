//! Reads the fields of a callback, bounded in every direction.
//!
//! What comes in here is chosen by strangers: size, depth, number of elements and attributes are
//! capped before they cost anything, a document type or an entity that is not one of XML's own
//! five is refused, and so are comments and processing instructions, which the platform never
//! sends. A name that we act on may occur once: two readers must never see two followers.
//!
//! Deliberately absent: what the fields mean (`inbound::message`), namespaces, attributes' values.

use quick_xml::Reader;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};

pub use super::fields::{BODY_BYTES_MAX, DEPTH_MAX, ELEMENTS_MAX, Fields, Format, ReadError};

/// Most attributes of one element. The platform sends none.
const ATTRIBUTES_MAX: usize = 16;

impl Fields {
    /// Reads `body`, which must be UTF-8.
    pub fn read(body: &[u8], format: Format) -> Result<Self, ReadError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(ReadError::Oversized);
        }
        let body = std::str::from_utf8(body).map_err(|_| ReadError::Malformed("not UTF-8"))?;
        match format {
            Format::Xml => read_xml(body),
            Format::Json => super::json::read(body),
        }
    }
}

/// An element that is not closed yet.
struct Element {
    name: String,
    text: String,
    /// Where the last CDATA section ended. White space around CDATA is layout, not text.
    cdata_end: Option<usize>,
    has_children: bool,
}

impl Element {
    fn push_cdata(&mut self, text: &str) {
        if self.cdata_end.is_none() && is_blank(&self.text) {
            self.text.clear();
        }
        self.text.push_str(text);
        self.cdata_end = Some(self.text.len());
    }

    fn into_field(mut self) -> Result<(String, String), ReadError> {
        if let Some(end) = self.cdata_end
            && is_blank(&self.text[end..])
        {
            self.text.truncate(end);
        }
        if self.has_children {
            if !is_blank(&self.text) {
                return Err(ReadError::Malformed("text beside elements"));
            }
            self.text.clear();
        }
        Ok((self.name, self.text))
    }
}

fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace())
}

fn read_xml(body: &str) -> Result<Fields, ReadError> {
    let mut reader = Reader::from_str(body);
    let mut fields = Fields::default();
    let mut open: Vec<Element> = Vec::new();
    let mut root_seen = false;
    loop {
        let event = reader.read_event();
        match event.map_err(|_| ReadError::Malformed("not well-formed"))? {
            Event::Start(start) => {
                begin(&mut fields, &mut open, &start, root_seen)?;
                root_seen = true;
            }
            Event::Empty(start) => {
                begin(&mut fields, &mut open, &start, root_seen)?;
                root_seen = true;
                end(&mut fields, &mut open)?;
            }
            Event::End(_) => end(&mut fields, &mut open)?,
            Event::Text(text) => match open.last_mut() {
                Some(element) => element.text.push_str(&text.xml10_content()),
                None if is_blank(&text) => {}
                None => return Err(ReadError::Malformed("text outside the root")),
            },
            Event::CData(text) => inside(&mut open)?.push_cdata(&text.xml10_content()),
            Event::GeneralRef(entity) => inside(&mut open)?.text.push(resolve(&entity)?),
            Event::Decl(declaration) if !root_seen => check_encoding(&declaration)?,
            Event::Decl(_) => return Err(ReadError::Malformed("a late XML declaration")),
            Event::DocType(_) => return Err(ReadError::Malformed("a document type")),
            Event::Comment(_) => return Err(ReadError::Malformed("a comment")),
            Event::PI(_) => return Err(ReadError::Malformed("a processing instruction")),
            Event::Eof => break,
        }
    }
    if root_seen && open.is_empty() {
        Ok(fields)
    } else {
        Err(ReadError::Malformed("cut off"))
    }
}

fn inside(open: &mut [Element]) -> Result<&mut Element, ReadError> {
    open.last_mut()
        .ok_or(ReadError::Malformed("text outside the root"))
}

fn begin(
    fields: &mut Fields,
    open: &mut Vec<Element>,
    start: &BytesStart<'_>,
    root_seen: bool,
) -> Result<(), ReadError> {
    let depth = open.len() + 1;
    fields.enter(depth)?;
    let name = start.name().into_inner();
    if depth == 1 && (root_seen || name != "xml") {
        return Err(ReadError::Malformed("not one <xml> element"));
    }
    // Counted while read, so that the reader's search for duplicates stays short as well.
    for (index, attribute) in start.attributes().enumerate() {
        if index >= ATTRIBUTES_MAX || attribute.is_err() {
            return Err(ReadError::Malformed("bad attributes"));
        }
    }
    if let Some(parent) = open.last_mut() {
        parent.has_children = true;
    }
    open.push(Element {
        name: name.to_owned(),
        text: String::new(),
        cdata_end: None,
        has_children: false,
    });
    Ok(())
}

fn end(fields: &mut Fields, open: &mut Vec<Element>) -> Result<(), ReadError> {
    let depth = open.len();
    let element = open
        .pop()
        .ok_or(ReadError::Malformed("an end without a start"))?;
    let (name, text) = element.into_field()?;
    if depth == 1 {
        // The root carries no text of its own: had it children, `into_field` checked that.
        return if is_blank(&text) {
            Ok(())
        } else {
            Err(ReadError::Malformed("text beside elements"))
        };
    }
    fields.add(depth, name, text)
}

fn resolve(entity: &BytesRef<'_>) -> Result<char, ReadError> {
    let named = match entity.as_ref() {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    };
    let numbered = || entity.resolve_char_ref().ok().flatten();
    named
        .or_else(|| numbered().filter(|character| is_legal(*character)))
        .ok_or(ReadError::Malformed("a forbidden entity"))
}

/// Characters that XML 1.0 (§2.2) allows in a document.
fn is_legal(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn check_encoding(declaration: &BytesDecl<'_>) -> Result<(), ReadError> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(encoding)) if encoding.eq_ignore_ascii_case("utf-8") => Ok(()),
        Some(_) => Err(ReadError::Malformed("an encoding other than UTF-8")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::DECISIVE;
    use super::*;

    fn read(body: &str) -> Result<Fields, ReadError> {
        Fields::read(body.as_bytes(), Format::Xml)
    }

    fn refused(body: &str) {
        assert!(read(body).is_err(), "{:.200}", body);
    }

    fn get<'a>(fields: &'a Fields, name: &str) -> &'a str {
        fields.get(name).expect(name)
    }

    #[test]
    fn the_platforms_own_shape_is_read() {
        let fields = read(
            "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\n<CreateTime>123</CreateTime>\n\
             <EventKey><![CDATA[]]></EventKey><Empty/>\
             <Event><![CDATA[subscribe_msg_sent_event]]></Event>\n<SubscribeMsgSentEvent>\
             <List><TemplateId><![CDATA[T1]]></TemplateId></List>\
             <List><TemplateId><![CDATA[T2]]></TemplateId></List></SubscribeMsgSentEvent></xml>\n",
        )
        .unwrap();
        assert_eq!(get(&fields, "ToUserName"), "gh_1");
        assert_eq!(get(&fields, "CreateTime"), "123");
        assert_eq!((get(&fields, "EventKey"), get(&fields, "Empty")), ("", ""));
        assert_eq!(
            (fields.get("TemplateId"), fields.first("TemplateId")),
            (None, Some("T1"))
        );
        assert_eq!(format!("{fields:?}").matches("gh_1").count(), 0);
    }

    #[test]
    fn text_keeps_its_space_and_layout_around_cdata_does_not() {
        let cases = [
            ("<![CDATA[ a\nb ]]>", " a\nb "),
            ("\n  <![CDATA[a]]>\n", "a"),
            (" a ", " a "),
            ("a &lt; &gt; b", "a < > b"),
            ("&amp;&quot;&apos;&#65;&#x4e2d;&#9;", "&\"'A中\t"),
            ("<![CDATA[&amp;<b>]]>", "&amp;<b>"),
            ("<![CDATA[a]]]]><![CDATA[>b]]>", "a]]>b"),
            ("<![CDATA[<![CDATA[a]]>", "<![CDATA[a"),
            ("<![CDATA[a]]>b]]>", "ab]]>"),
            ("😀 é", "😀 é"),
        ];
        for (written, text) in cases {
            let fields = read(&format!("<xml><Content>{written}</Content></xml>")).unwrap();
            assert_eq!(get(&fields, "Content"), text, "{written}");
        }
    }

    #[test]
    fn document_types_and_entities_of_ones_own_are_refused() {
        for body in [
            r#"<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]><xml><Content>&lol2;</Content></xml>"#,
            r#"<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><xml><Content>&e;</Content></xml>"#,
            r#"<!DOCTYPE x SYSTEM "http://169.254.169.254/"><xml/>"#,
            r#"<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1/"> %p;]><xml/>"#,
            "<!DOCTYPE xml><xml/>",
            "<xml><!DOCTYPE xml></xml>",
            "<xml><Content>&lol;</Content></xml>",
            "<xml><Content>&nbsp;</Content></xml>",
            "<xml><Content>&AMP;</Content></xml>",
            "<xml><Content>&amp</Content></xml>",
            "<xml><Content>& alone</Content></xml>",
        ] {
            refused(body);
        }
        let blowup = format!(
            r#"<!DOCTYPE x [<!ENTITY a "{}">]><xml><Content>{}</Content></xml>"#,
            "a".repeat(10_000),
            "&a;".repeat(10_000)
        );
        refused(&blowup);
    }

    #[test]
    fn references_to_illegal_characters_are_refused() {
        let numbers = "#0 #x0 #8 #11 #x1f #xd800 #xdfff #xfffe #xffff #x110000 #4294967296 \
                       #-1 # #x #xg #99999999999999999999";
        for number in numbers.split(' ') {
            refused(&format!("<xml><Content>&{number};</Content></xml>"));
        }
    }

    #[test]
    fn depth_elements_and_attributes_are_bounded_at_the_edge() {
        let nested = |depth: usize| {
            let (open, close) = ("<a>".repeat(depth - 1), "</a>".repeat(depth - 1));
            format!("<xml>{open}{close}</xml>")
        };
        assert!(read(&nested(DEPTH_MAX)).is_ok());
        refused(&nested(DEPTH_MAX + 1));
        refused(&nested(9_000));
        refused(&nested(300_000));
        refused(&"<xml>".repeat(12_000));

        let many = |count: usize| format!("<xml>{}</xml>", "<a/>".repeat(count - 1));
        assert!(read(&many(ELEMENTS_MAX)).is_ok());
        refused(&many(ELEMENTS_MAX + 1));

        let attributed = |count: usize| {
            let list: Vec<_> = (0..count).map(|i| format!("a{i}=''")).collect();
            format!("<xml><A {}/></xml>", list.join(" "))
        };
        assert!(read(&attributed(ATTRIBUTES_MAX)).is_ok());
        refused(&attributed(ATTRIBUTES_MAX + 1));
        refused(&attributed(6_000));
        refused(&attributed(60_000));
        refused("<xml><A b='1' b='2'/></xml>");
    }

    #[test]
    fn a_body_beyond_the_cap_is_oversized_and_one_at_it_is_read() {
        let shell = "<xml><Content></Content></xml>".len();
        let body = |bytes: usize| {
            format!(
                "<xml><Content>{}</Content></xml>",
                "x".repeat(bytes - shell)
            )
        };
        assert!(read(&body(BODY_BYTES_MAX)).is_ok());
        assert_eq!(
            read(&body(BODY_BYTES_MAX + 1)).unwrap_err(),
            ReadError::Oversized
        );
        assert_eq!(read(&body(1 << 20)).unwrap_err(), ReadError::Oversized);
    }

    #[test]
    fn only_utf_8_is_read() {
        let fields = |bytes: &[u8]| Fields::read(bytes, Format::Xml);
        assert!(fields(b"<xml><Content>\xff\xfe</Content></xml>").is_err());
        assert!(fields(b"<xml><Content>\xed\xa0\x80</Content></xml>").is_err());
        assert!(fields(b"<xml><Content>\xc0\xaf</Content></xml>").is_err());
        let utf16: Vec<u8> = std::iter::once(0xfeff)
            .chain("<xml/>".encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        assert!(fields(&utf16).is_err() && Format::of(&utf16).is_err());
        refused("<?xml version='1.0' encoding='gb2312'?><xml/>");
        refused("<?xml version='1.0' encoding='UTF-16'?><xml/>");
        assert!(read("<?xml version='1.0' encoding='UTF-8'?>\n<xml/>").is_ok());
        assert!(read("<?xml version='1.0'?><xml/>").is_ok());
    }

    #[test]
    fn decisive_names_occur_once_and_others_keep_the_first() {
        for name in DECISIVE {
            refused(&format!("<xml><{name}>a</{name}><{name}>b</{name}></xml>"));
            refused(&format!("<xml><{name}/><x/><{name}>b</{name}></xml>"));
            refused(&format!(
                "<xml><{name}><b>c</b></{name}><{name}>b</{name}></xml>"
            ));
        }
        let fields = read("<xml><Status>a</Status><Status>b</Status></xml>").unwrap();
        assert_eq!(get(&fields, "Status"), "a");
        let nested =
            "<xml><FromUserName>a</FromUserName><I><FromUserName>b</FromUserName></I></xml>";
        assert_eq!(get(&read(nested).unwrap(), "FromUserName"), "a");
    }

    #[test]
    fn what_is_not_one_plain_document_is_refused() {
        let documents = "x ¦ <xml> ¦ <xml><a></xml> ¦ </xml> ¦ <xml></xml></xml> ¦ <xml/><xml/> ¦ \
             <xml/>x ¦ x<xml/> ¦ <xml>x</xml> ¦ <xml>x<a/></xml> ¦ <xml><a/>x</xml> ¦ \
             <html/> ¦ <XML/> ¦ <![CDATA[<xml/>]]> ¦ <xml/>&amp; ¦ <xml><a>b<c/></a></xml> ¦ \
             <xml><a ¦ <xml><FromUserName>a<!-- x -->b</FromUserName></xml> ¦ \
             <!-- x --><xml/> ¦ <xml/><!-- ¦ <xml><?php x ?></xml> ¦ \
             <xml/><?xml version='1.0'?> ¦ <xml><![CDATA[</xml> ¦ <xml><a>b</A></xml> ¦ \
             <xml><FromUserName><b>c</b>d</FromUserName></xml>";
        let blank = ["", " ", "\n"];
        let nul = ["<xml><a>\0</a></xml>", "<xml><a><![CDATA[\0]]></a></xml>"];
        for body in documents.split(" ¦ ").chain(blank).chain(nul) {
            refused(body);
        }
    }
}
