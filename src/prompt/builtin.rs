//! Chat templates for models whose file contains none. They follow the formats that the models' makers document.

/// How chat turns are written for a model whose file has no chat template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatFormat {
    /// `[INST] <<SYS>>…<</SYS>> … [/INST]` (Llama 2).
    Llama2,
    /// `[INST] … [/INST]` (Mistral).
    Mistral,
    /// `<|start_header_id|>role<|end_header_id|>` (Llama 3 and 3.1).
    Llama3,
    /// `<|im_start|>role` (ChatML: SmolLM2 and many others).
    ChatMl,
    /// `<start_of_turn>role` (Gemma).
    Gemma,
    /// `<|role|>` … `<|end|>` (Phi-3).
    Phi3,
    /// `<｜User｜>` and `<｜Assistant｜>` (DeepSeek).
    DeepSeek,
    /// `<|start_of_role|>role<|end_of_role|>` (Granite 3).
    Granite,
    /// A base model: message contents, one after the other.
    Plain,
}

/// Tokens that show a format.
const SHOWN_BY: [(&str, ChatFormat); 7] = [
    ("<|im_start|>", ChatFormat::ChatMl),
    ("<|start_header_id|>", ChatFormat::Llama3),
    ("[INST]", ChatFormat::Mistral),
    ("<start_of_turn>", ChatFormat::Gemma),
    ("<|start_of_role|>", ChatFormat::Granite),
    ("<｜Assistant｜>", ChatFormat::DeepSeek),
    ("<|end|>", ChatFormat::Phi3),
];

impl ChatFormat {
    /// The format of a file, whatever id it is asked for by: the one that its vocabulary shows. Llama 2's vocabulary shows none; it is also that of
    /// the first Mistral and of CodeLlama, which their names tell. `has`: whether a token is in the vocabulary; `name`: the model's in the file.
    pub fn of_file(has: impl Fn(&str) -> bool, is_sentence_piece: bool, name: &str) -> Self {
        let name = name.to_lowercase();
        match SHOWN_BY.iter().find(|(token, _)| has(token)) {
            Some((_, format)) => *format,
            None if !is_sentence_piece => Self::ChatMl,
            None if name.contains("mistral") || name.contains("mixtral") => Self::Mistral,
            None if name.contains("code") && !name.contains("instruct") => Self::Plain,
            None => Self::Llama2,
        }
    }
}

/// The Jinja source of the template for a chat format.
pub fn template_for(format: ChatFormat) -> &'static str {
    match format {
        ChatFormat::Llama2 => LLAMA2,
        ChatFormat::Mistral => MISTRAL,
        ChatFormat::Llama3 => LLAMA3,
        ChatFormat::ChatMl => CHATML,
        ChatFormat::Gemma => GEMMA,
        ChatFormat::Phi3 => PHI3,
        ChatFormat::DeepSeek => DEEPSEEK,
        ChatFormat::Granite => GRANITE,
        ChatFormat::Plain => PLAIN,
    }
}

const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}";

const LLAMA3: &str = "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message.role }}<|end_header_id|>

{{ message.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}";

/// The system prompt is part of the first user turn.
const LLAMA2: &str = "{% set ns = namespace(system='') %}{% for message in messages %}\
{% if message.role == 'system' %}{% set ns.system = '<<SYS>>\n' ~ message.content ~ '\n<</SYS>>\n\n' %}\
{% elif message.role == 'assistant' %} {{ message.content | trim }} {{ eos_token }}\
{% else %}{{ bos_token }}[INST] {{ ns.system }}{{ message.content | trim }} [/INST]{% set ns.system = '' %}{% endif %}\
{% endfor %}";

const MISTRAL: &str = "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}\
{% if message.role == 'system' %}{% set ns.system = message.content ~ '\n\n' %}\
{% elif message.role == 'assistant' %} {{ message.content | trim }}{{ eos_token }}\
{% else %}[INST] {{ ns.system }}{{ message.content | trim }} [/INST]{% set ns.system = '' %}{% endif %}\
{% endfor %}";

/// It knows no system turns.
const GEMMA: &str = "{{ bos_token }}{% for message in messages %}\
{% if message.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
<start_of_turn>{{ 'model' if message.role == 'assistant' else message.role }}
{{ message.content | trim }}<end_of_turn>
{% endfor %}{% if add_generation_prompt %}<start_of_turn>model
{% endif %}";

const PHI3: &str = "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>
{{ message.content }}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}";

const DEEPSEEK: &str = "{{ bos_token }}{% for message in messages %}\
{% if message.role == 'assistant' %}<｜Assistant｜>{{ message.content }}{{ eos_token }}\
{% elif message.role == 'system' %}{{ message.content }}{% else %}<｜User｜>{{ message.content }}{% endif %}\
{% endfor %}{% if add_generation_prompt %}<｜Assistant｜>{% endif %}";

const GRANITE: &str = "{% for message in messages %}<|start_of_role|>{{ message.role }}<|end_of_role|>{{ message.content }}<|end_of_text|>
{% endfor %}{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}";

const PLAIN: &str = "{{ messages | map(attribute='content') | join('\n') }}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_shows_the_format_and_only_then_the_name() {
        let of = |tokens: &[&str], is_sentence_piece, name| ChatFormat::of_file(|token| tokens.contains(&token), is_sentence_piece, name);
        assert_eq!(of(&["<|im_start|>", "[INST]"], false, "Llama 2"), ChatFormat::ChatMl);
        assert_eq!(of(&["<start_of_turn>"], true, ""), ChatFormat::Gemma);
        assert_eq!(of(&[], false, "mistral"), ChatFormat::ChatMl);
        assert_eq!(of(&[], true, "LLaMA v2"), ChatFormat::Llama2);
        assert_eq!(of(&[], true, "mistralai_Mistral-7B-Instruct-v0.1"), ChatFormat::Mistral);
        assert_eq!(of(&[], true, "codellama_codellama-7b-hf"), ChatFormat::Plain);
        assert_eq!(of(&[], true, "codellama_CodeLlama-7b-Instruct-hf"), ChatFormat::Llama2);
    }
}
