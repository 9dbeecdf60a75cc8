//! Chat templates for models whose file contains none. They follow the formats that the models' makers document.

use crate::catalog::ChatFormat;

/// The Jinja source of the template for a chat format.
pub fn template_for(format: ChatFormat) -> &'static str {
    match format {
        ChatFormat::Llama2 => LLAMA2,
        ChatFormat::Mistral => MISTRAL,
        ChatFormat::Llama3 => LLAMA3,
        ChatFormat::ChatMl => CHATML,
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

const PLAIN: &str = "{{ messages | map(attribute='content') | join('\n') }}";
