"""Renders chat templates as transformers' `apply_chat_template` does: stdin and stdout are JSON.

In: {"now": seconds, "templates": [{"source", "special", "conversations": [[variables, …], …]}]}. Out: for each template and each of its conversations
the text for the first variables that the template does not fail for; otherwise the first error.
"""

import json
import sys
from datetime import datetime, timezone

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """`{% generation %}`: transformers notes where the assistant's text is, and renders it unchanged."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_unchanged"), [], [], body).set_lineno(line)

    def _unchanged(self, caller):
        return caller()


def raise_exception(message):
    raise TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment_at(now):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.fromtimestamp(now, timezone.utc).strftime(form)
    return environment


def rendered(template, attempts):
    failure = None
    for variables in attempts:
        try:
            return {"text": template.render(**variables)}
        except Exception as error:  # Python's own errors too: a template may add None to a text.
            failure = failure or {"error": str(error), "raised": type(error) is TemplateError}
    return failure


def answers(environment, source, special, conversations):
    template = environment.from_string(source)
    given = [[{"tools": None, "documents": None, **special, **variables} for variables in attempts] for attempts in conversations]
    return [rendered(template, attempts) for attempts in given]


job = json.load(sys.stdin)
environment = environment_at(job["now"])
json.dump([answers(environment, **template) for template in job["templates"]], sys.stdout)
