//! A model's chat template, rendered in the same way as by Hugging Face's `apply_chat_template`.

use super::probe::Shown;
use super::{jinja, metered};
use crate::error::{AiError, Result};
use crate::output::Tags;
use crate::panics::caught;
use crate::tools::CallFormat;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value as JinjaValue};
use minijinja::{Environment, Error};
use serde_json::{Map, Value, json};

/// Maximum number of minijinja instructions per rendering, so that a damaged template cannot loop forever: for the template, and for each
/// message and tool.
const FUEL: [u64; 2] = [1_000_000, 10_000];

/// The part of these bounds, and of those on filters, that a sample gets which shows what the template does: a file must not take long to load.
const PROBE_SHARE: u64 = 20;

/// A compiled chat template, with the texts of the model's BOS and EOS tokens.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
    /// As the source shows it.
    call_format: CallFormat,
    asks_for_null_content: bool,
    thought_tags: Option<Tags>,
    thinks_by_default: bool,
    shown: Shown,
}

impl ChatTemplate {
    /// Compiles the Jinja `source`. `bos_token` and `eos_token` are the texts of these tokens.
    ///
    /// # Errors
    ///
    /// 5004 if `source` is not a valid template.
    pub fn new(source: &str, bos_token: &str, eos_token: &str) -> Result<Self> {
        if let Some(reason) = jinja::too_deep(source) {
            return Err(AiError::invalid_data(format!("The model's chat template is not valid: {reason}.")));
        }
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|error| invalid(&error))?);
        metered::extend(&mut environment);
        jinja::extend(&mut environment);
        // minijinja panics at some sources and at some values, such as the ends of extreme slices.
        caught(|| environment.add_template_owned("chat", jinja::rewritten(source)))?.map_err(|error| invalid(&error))?;
        let names = environment.get_template("chat").map_err(|error| invalid(&error))?.undeclared_variables(false);
        let uses_tools = names.contains("tools");
        let mut template = Self {
            environment,
            bos_token: bos_token.into(),
            eos_token: eos_token.into(),
            call_format: CallFormat::of_template(source),
            asks_for_null_content: asks_for_null_content(source),
            thought_tags: Tags::of_template(source),
            thinks_by_default: false,
            shown: Shown { tools: uses_tools, system_turns: true, calls: true, parallel_calls: true, results: true },
        };
        template.shown = Shown::by(|turns, variables| template.render_within(PROBE_SHARE, turns, variables).ok(), uses_tools);
        template.thinks_by_default = template.switches_thoughts_off();
        Ok(template)
    }

    /// Whether the template tells the model not to think if it is asked to, by an empty thought: without it, the model thinks.
    fn switches_thoughts_off(&self) -> bool {
        let Some(tags) = self.thought_tags else { return false };
        let turns = [json!({"role": "user", "content": "a"})];
        let rendered = |variables: Map<String, Value>| self.render_within(PROBE_SHARE, &turns, &variables).unwrap_or_default();
        let off = ["enable_thinking", "thinking"].map(|name| (name.to_owned(), Value::Bool(false)));
        !tags.closes_at_end(&rendered(Map::new())) && tags.closes_at_end(&rendered(off.into_iter().collect()))
    }

    /// The marks of thoughts that the template mentions.
    pub fn thought_tags(&self) -> Option<Tags> {
        self.thought_tags
    }

    /// Whether the model begins its answers with a thought, if nothing says otherwise.
    pub fn thinks_by_default(&self) -> bool {
        self.thinks_by_default
    }

    /// What reaches the model through the template.
    pub fn shown(&self) -> &Shown {
        &self.shown
    }

    /// Whether the template treats an assistant turn without content differently from one with empty content.
    pub fn asks_for_null_content(&self) -> bool {
        self.asks_for_null_content
    }

    /// The format in which the model writes calls: the template's format, or the one that our own prompt asks for.
    pub fn call_format(&self) -> CallFormat {
        if self.shown.tools { self.call_format } else { CallFormat::Bare }
    }

    /// Renders the conversation, followed by the start of the assistant's next turn. `variables` are additional variables for the
    /// template; `messages`, `add_generation_prompt`, `bos_token` and `eos_token` override variables of the same name.
    ///
    /// # Errors
    ///
    /// 5004 if the template fails or rejects the messages.
    pub fn render(&self, messages: &[Value], variables: &Map<String, Value>) -> Result<String> {
        self.render_within(1, messages, variables)
    }

    /// `share`: what part of the bounds on a rendering applies, as a divisor.
    fn render_within(&self, share: u64, messages: &[Value], variables: &Map<String, Value>) -> Result<String> {
        // As in Python: templates ask `tools is not none`.
        let absent = ["tools", "documents"].map(|name| (name.to_owned(), Value::Null));
        let mut context: Map<String, Value> = absent.into_iter().chain(variables.clone()).collect();
        context.insert("messages".into(), Value::Array(messages.to_vec()));
        context.insert("add_generation_prompt".into(), Value::Bool(true));
        context.insert("bos_token".into(), Value::String(self.bos_token.clone()));
        context.insert("eos_token".into(), Value::String(self.eos_token.clone()));
        let tools = variables.get("tools").and_then(Value::as_array).map_or(0, Vec::len);
        let [base, each] = FUEL;
        let mut environment = self.environment.clone();
        environment.set_fuel(Some((base + each * (messages.len() + tools) as u64) / share));
        metered::begin(share);
        let template = environment.get_template("chat").map_err(|error| failed(&error))?;
        caught(|| template.render(JinjaValue::from(Serde(&context))))?.map_err(|error| failed(&error))
    }
}

/// Whether a template asks whether `content` is none: `content` alone, not as a part of another name.
fn asks_for_null_content(source: &str) -> bool {
    source.match_indices("content").any(|(at, name)| {
        let before = source.get(..at).and_then(|before| before.chars().next_back());
        let after = source.get(at + name.len()..).unwrap_or_default().trim_start_matches(['\'', '"', ']', ')', ' ']);
        let test = ["is none", "is not none", "is null", "== none", "!= none", "is None", "is not None"];
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_') && test.iter().any(|test| after.starts_with(test))
    })
}

fn invalid(error: &Error) -> AiError {
    AiError::invalid_data(format!("The model's chat template is not valid: {error}"))
}

fn failed(error: &Error) -> AiError {
    // An error that the template raises on purpose has a text for the caller, for instance that roles do not alternate.
    let reason = error.detail().map_or_else(|| error.to_string(), str::to_owned);
    AiError::invalid_data(format!("The model's chat template rejected the messages: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{ChatFormat, template_for};
    use serde_json::json;

    fn render(source: &str, messages: Value) -> Result<String> {
        let Value::Array(messages) = messages else { panic!("messages") };
        ChatTemplate::new(source, "<s>", "</s>").and_then(|template| template.render(&messages, &Map::new()))
    }

    fn conversation() -> Value {
        json!([
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye"},
        ])
    }

    #[test]
    fn built_in_templates_render_the_documented_formats() {
        let render = |format| render(template_for(format), conversation()).expect("text");
        assert_eq!(
            render(ChatFormat::ChatMl),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(render(ChatFormat::Llama2), "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]");
        assert_eq!(render(ChatFormat::Mistral), "<s>[INST] Be kind.\n\nHi [/INST] Hello</s>[INST] Bye [/INST]");
        assert_eq!(
            render(ChatFormat::Llama3),
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
        assert_eq!(
            render(ChatFormat::Phi3),
            "<s><|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n"
        );
        assert_eq!(render(ChatFormat::DeepSeek), "<s>Be kind.<｜User｜>Hi<｜Assistant｜>Hello</s><｜User｜>Bye<｜Assistant｜>");
        assert_eq!(
            render(ChatFormat::Granite),
            "<|start_of_role|>system<|end_of_role|>Be kind.<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>Hello<|end_of_text|>\n<|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n<|start_of_role|>assistant<|end_of_role|>"
        );
        assert_eq!(render(ChatFormat::Plain), "Be kind.\nHi\nHello\nBye");
        let gemma = [json!({"role": "user", "content": " Hi\n"}), json!({"role": "assistant", "content": "Hello"})];
        let template = ChatTemplate::new(template_for(ChatFormat::Gemma), "<s>", "</s>").expect("a template");
        assert!(!template.shown().system_turns);
        assert_eq!(
            template.render(&gemma, &Map::new()).as_deref(),
            Ok("<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n<start_of_turn>model\n")
        );
    }

    #[test]
    fn python_methods_and_json_as_templates_expect_them() {
        let source = "{% for m in messages %}{{ m['content'].strip().split(' ')[0].upper() }}{{ m | tojson }}{% endfor %}";
        assert_eq!(
            render(source, json!([{"role": "user", "content": " a<b c "}])).expect("text"),
            "A<B{\"role\": \"user\", \"content\": \" a<b c \"}"
        );
    }

    #[test]
    fn a_template_that_raises_or_never_ends_is_an_error() {
        let error = render("{{ raise_exception('roles must alternate') }}", json!([])).expect_err("an error");
        assert!(error.to_string().ends_with("roles must alternate"), "{error}");
        assert!(render("{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}", json!([])).is_err());
        assert!(render("{% if %}", json!([])).is_err());
    }

    /// minijinja panics at these, because it subtracts 1 from the length of nothing.
    #[test]
    fn slices_with_a_step_are_pythons() {
        let ends = "{{ messages[9223372036854775807::-9223372036854775808] }}{{ messages[::-1] }}{{ 'abcde'[::-2] }}{{ ''[1::-1] }}";
        assert_eq!(render(ends, json!([])).as_deref(), Ok("[][]eca"));
    }

    /// Each overflowed the stack of a WebAssembly instance.
    #[test]
    fn long_chains_of_operators_are_an_error() {
        for link in ["-", "not ", "1+", "1**", "'a'~", "1 and ", "x.", "f()(", "x|string|", "1 if 1 else "] {
            assert!(render(&format!("{{{{ {} 1 }}}}", link.repeat(1001)), json!([])).is_err(), "{link}");
        }
        let branches = |count| format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(count));
        assert!(render(&branches(501), json!([])).is_err());
        assert_eq!(render(&branches(500), json!([])), Ok(String::new()));
        let long = format!("{{{{ '{}' }}}}", "a b ".repeat(5000));
        assert_eq!(render(&long, json!([])).map(|text| text.len()), Ok(20_000), "strings may be long");
    }

    /// Minutes of work before: only the instructions around it were counted.
    #[test]
    fn costly_filters_and_methods_end() {
        for costly in ["('a' * 1000) | upper | sort | join", "('a' * 100000) | upper | lower | title", "('a b ' * 1000).split(' ')"] {
            let source = format!("{{% for i in range(30000) %}}{{{{ ({costly}) | length }}}}{{% endfor %}}");
            let error = render(&source, json!([])).expect_err(costly);
            assert!(error.text.contains("too much to do"), "{error}");
        }
        let long = "word ".repeat(100_000);
        let trimmed =
            render("{{ messages[0]['content'] | trim | replace('word', 'w') | upper }}", json!([{"content": long}])).expect("text");
        assert_eq!(trimmed.len(), 199_999);
    }
}
