// The validator of JSON Schemas. It interprets them, because the page's Content Security Policy allows no code that is made at run time.

export { Validator } from "@cfworker/json-schema";
