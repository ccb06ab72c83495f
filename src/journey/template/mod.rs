//! Templates in messages and conditions on followers.
//!
//! `{{ follower.scene | default("friend") }}` prints a variable; `{% if … %}` chooses. That is all:
//! `grammar` refuses everything else with its position when the sequence is read, and minijinja
//! runs what is left, in an environment that holds nothing but our six filters and `clicked`. Fuel bounds the
//! work and a counting writer the output, since fuel alone bounds no memory.
//!
//! A printed value is data: braces in it are printed, not run. In links it is percent-encoded.
//! Every variable exists for every follower; what is not known is empty text. Never there: the
//! follower's openid and anything secret.

mod grammar;
#[cfg(test)]
mod tests;
mod values;
mod words;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use minijinja::{Environment, Expression, UndefinedBehavior, Value};

pub use grammar::{Refusal, check, is_template};
pub use values::Facts;

use crate::journey::message::{
    Form, MenuItem, Message, MiniProgramPage, MsgMenu, News, TEXT_MAX, Video,
};

/// Most instructions of one rendering.
const FUEL: u64 = 20_000;

static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(|| environment(values::print));
static LINK: LazyLock<Environment<'static>> = LazyLock::new(|| environment(values::print_encoded));

fn environment(print: values::Printer) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(32);
    environment.set_formatter(print);
    // Off in tests too: debug output would carry the variables into errors.
    environment.set_debug(false);
    values::add_filters(&mut environment);
    environment
}

/// Why a message could not be filled in, or a condition not decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The filled in text is longer than the platform takes.
    #[error("the {field} is longer than {limit} bytes once it is filled in")]
    TooLong { field: &'static str, limit: usize },
    /// Nothing is left of a text that may not be empty.
    #[error("the {field} is empty once it is filled in")]
    Empty { field: &'static str },
    /// Refused while it ran; sequences that were checked do not get here.
    #[error("the template of the {field} failed: {reason}")]
    Failed { field: &'static str, reason: String },
}

/// A condition such as `'vip' not in follower.tags`, compiled.
#[derive(Clone)]
pub struct Condition {
    source: Arc<str>,
    compiled: Arc<Expression<'static, 'static>>,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// What is not allowed in it, and where.
    pub fn new(source: &str) -> Result<Self, Refusal> {
        grammar::check_condition(source)?;
        let compiled = PLAIN
            .compile_expression_owned(source.to_owned())
            .map_err(|error| Refusal::whole(source, error.kind().to_string()))?;
        Ok(Self {
            source: source.into(),
            compiled: Arc::new(compiled),
        })
    }

    /// What a condition asks by `clicked('…')`, each name with its bytes.
    ///
    /// # Errors
    /// When it is no condition.
    pub fn clicked_in(source: &str) -> Result<Vec<(String, Range<usize>)>, Refusal> {
        grammar::clicked_in(source)
    }

    /// The name in an event `clicked('…')`.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn clicked_alone(source: &str) -> Result<String, Refusal> {
        grammar::clicked_alone(source)
    }

    /// Whether it asks what the follower clicked.
    pub fn asks_for_clicks(&self) -> bool {
        Self::clicked_in(&self.source).is_ok_and(|clicked| !clicked.is_empty())
    }

    /// The condition as it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it holds for a follower at this moment.
    ///
    /// # Errors
    /// When it cannot be decided, which the check of sequences rules out.
    pub fn holds(&self, facts: &Facts) -> Result<bool, TemplateError> {
        self.compiled
            .eval(facts.context())
            .map(|value| value.is_true())
            .map_err(|error| failed("condition", &error))
    }
}

/// The form with every field filled in.
///
/// # Errors
/// As `render`.
pub fn fill(form: &Form, facts: &Facts) -> Result<Form, TemplateError> {
    let fill = Filler {
        facts,
        context: OnceCell::new(),
    };
    let mut data = BTreeMap::new();
    for (name, value) in &form.data {
        data.insert(name.clone(), fill.needed(value, "field of the template")?);
    }
    Ok(Form {
        template: form.template.clone(),
        url: match &form.url {
            Some(url) => Some(fill.link(url, "url")?),
            None => None,
        },
        mini_program: form.mini_program.clone(),
        data,
    })
}

/// The message with every text filled in; assets are left as they are.
///
/// # Errors
/// When a text comes out empty or too long, which only shows with a follower's values.
pub fn render(message: &Message, facts: &Facts) -> Result<Message, TemplateError> {
    let fill = Filler {
        facts,
        context: OnceCell::new(),
    };
    Ok(match message {
        Message::Text(text) => Message::Text(fill.needed(text, "text")?),
        Message::Image(_) | Message::Voice(_) | Message::Article(_) => message.clone(),
        Message::Video(video) => Message::Video(Video {
            title: fill.needed(&video.title, "title")?,
            description: fill.text(&video.description, "description")?,
            ..video.clone()
        }),
        Message::News(news) => Message::News(News {
            title: fill.needed(&news.title, "title")?,
            description: fill.text(&news.description, "description")?,
            url: fill.link(&news.url, "url")?,
            picture: news.picture.clone(),
        }),
        Message::MsgMenu(menu) => Message::MsgMenu(MsgMenu {
            head: fill.needed(&menu.head, "head")?,
            items: menu
                .items
                .iter()
                .map(|item| {
                    Ok(MenuItem {
                        id: item.id.clone(),
                        text: fill.needed(&item.text, "item")?,
                    })
                })
                .collect::<Result<_, TemplateError>>()?,
            tail: fill.text(&menu.tail, "tail")?,
        }),
        Message::MiniProgramPage(page) => Message::MiniProgramPage(MiniProgramPage {
            title: fill.needed(&page.title, "title")?,
            path: fill.link(&page.path, "path")?,
            ..page.clone()
        }),
    })
}

/// An address with everything filled in.
///
/// # Errors
/// As `render`.
pub fn link(source: &str, facts: &Facts) -> Result<String, TemplateError> {
    let fill = Filler {
        facts,
        context: OnceCell::new(),
    };
    fill.link(source, "link")
}

/// Fills in the texts of one message.
struct Filler<'a> {
    facts: &'a Facts,
    /// Made when the first template needs it: most messages have none.
    context: OnceCell<Value>,
}

impl Filler<'_> {
    fn text(&self, source: &str, field: &'static str) -> Result<String, TemplateError> {
        self.fill(&PLAIN, source, field)
    }

    fn link(&self, source: &str, field: &'static str) -> Result<String, TemplateError> {
        self.fill(&LINK, source, field)
    }

    fn needed(&self, source: &str, field: &'static str) -> Result<String, TemplateError> {
        let text = self.text(source, field)?;
        if text.trim().is_empty() {
            return Err(TemplateError::Empty { field });
        }
        Ok(text)
    }

    fn fill(
        &self,
        environment: &Environment<'static>,
        source: &str,
        field: &'static str,
    ) -> Result<String, TemplateError> {
        if !is_template(source) {
            return Ok(source.to_owned());
        }
        // Messages that were stored by an older program are held to today's grammar.
        check(source).map_err(|refusal| TemplateError::Failed {
            field,
            reason: refusal.message,
        })?;
        let context = self.context.get_or_init(|| self.facts.context());
        let mut out = Bounded::default();
        let result = borrowing(environment)
            .template_from_str(source)
            .and_then(|template| {
                template
                    .render_captured_to(context.clone(), &mut out)
                    .map(drop)
            });
        if out.full {
            let limit = TEXT_MAX;
            return Err(TemplateError::TooLong { field, limit });
        }
        result.map_err(|error| failed(field, &error))?;
        String::from_utf8(out.bytes).map_err(|error| TemplateError::Failed {
            field,
            reason: error.to_string(),
        })
    }
}

/// The same environment, for templates that live as short as this borrow.
fn borrowing<'e>(environment: &'e Environment<'static>) -> &'e Environment<'e> {
    environment
}

fn failed(field: &'static str, error: &minijinja::Error) -> TemplateError {
    TemplateError::Failed {
        field,
        reason: error.kind().to_string(),
    }
}

/// A writer that stops at the platform's limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.full || self.bytes.len() + bytes.len() > TEXT_MAX {
            self.full = true;
            return Err(io::Error::other("text is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
