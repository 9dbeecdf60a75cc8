// Checks, for each id of text generation and of embeddings that Cloudflare publishes types for, that our `Ai` stands for Cloudflare's: that `run`
// takes the published input and returns the published output. Nothing here runs: `tsc -p tests/types` checks it.

import {
  Ai as LocalAi,
  type ChatCompletion,
  type ChatCompletionsModel,
  type ResponsesModel,
  type ResponsesOutput,
  type TextGenerationOutput,
  type ToolCall,
} from "workers-ai-local";

/** Fails to compile, with the names, if there are any. */
function none<_Names extends never>(): void {}

// ── The ids ──

type Embedding = `@cf/baai/bge-${"small-en-v1.5" | "base-en-v1.5" | "large-en-v1.5" | "m3"}` | "@cf/google/embeddinggemma-300m" | "@cf/qwen/qwen3-embedding-0.6b";
type WithMessages<Id, Input> = Input extends { messages?: object } ? Id : never;
/** Ids that take messages, but for one whose answers describe images. */
type Text = Exclude<{ [Id in keyof AiModels]: WithMessages<Id, AiModels[Id]["inputs"]> }[keyof AiModels], "@cf/llava-hf/llava-1.5-7b-hf">;
type Id = Text | Embedding;
type Newer = ChatCompletionsModel & keyof AiModels;
type Older = Exclude<Text, Newer>;
/** Ids whose answers have no type that they share with others. */
type ChatOrText = "@cf/qwen/qwen3-30b-a3b-fp8" | "@cf/aisingapore/gemma-sea-lion-v4-27b-it";
/** Ids of the general type of text generation. */
type General = { [I in Text]: AiModels[I] extends BaseAiTextGeneration ? (BaseAiTextGeneration extends AiModels[I] ? I : never) : never }[Text];

// ── run ──

type Signatures = LocalAi["run"] extends {
  (...args: infer A1): infer R1;
  (...args: infer A2): infer R2;
  (...args: infer A3): infer R3;
  (...args: infer A4): infer R4;
  (...args: infer A5): infer R5;
  (...args: infer A6): infer R6;
  (...args: infer A7): infer R7;
  (...args: infer A8): infer R8;
  (...args: infer A9): infer R9;
  (...args: infer A10): infer R10;
  (...args: infer A11): infer R11;
  (...args: infer A12): infer R12;
  (...args: infer A13): infer R13;
  (...args: infer A14): infer R14;
  (...args: infer A15): infer R15;
  (...args: infer A16): infer R16;
  (...args: infer A17): infer R17;
  (...args: infer A18): infer R18;
}
  ? [
      ...[[A1, R1], [A2, R2], [A3, R3], [A4, R4], [A5, R5], [A6, R6], [A7, R7], [A8, R8], [A9, R9]],
      ...[[A10, R10], [A11, R11], [A12, R12], [A13, R13], [A14, R14], [A15, R15], [A16, R16], [A17, R17], [A18, R18]],
    ]
  : never;
/** All signatures but the first, which makes the class assignable to Cloudflare's and answers no call. */
type Callable = Signatures extends [[[model: never, inputs: never, options: never], Promise<any>], ...infer Others] ? Others : never;
/** What a call results in: as in TypeScript, the first signature that takes the arguments answers. `undefined` if none does. */
type Called<Args, List = Callable> = List extends [[infer Own, Promise<infer Result>], ...infer Others]
  ? [Args] extends [Own]
    ? Result
    : Called<Args, Others>
  : undefined;

// ── Inputs ──

/** Of these fields an input needs one, with the published types of what requests may have in it. Many types have all of them as optional fields. */
interface Needed {
  prompt: string;
  messages: (RoleScopedChatInput | DeveloperMessage | SystemMessage | ToolMessage | { role: "user"; content: ChatCompletionContentPartText[] } | CallingMessage | RefusingMessage)[];
  input: string | (InputText | OutputText | ResponseOutputMessage | ResponseFunctionToolCall | ResponseReasoningItem)[];
  text: string | string[];
  queries: string | string[];
  documents: string | string[];
  contexts: { text: string }[];
}
type CallingMessage = { role: "assistant"; content?: string | null; tool_calls: ChatCompletionMessageFunctionToolCall[] };
type RefusingMessage = { role: "assistant"; content: null; refusal: string } | { role: "assistant"; content: ChatCompletionContentPartRefusal[] };
type InputText = Omit<EasyInputMessage, "content"> & { content: string | ResponseInputText[] };
type OutputText = Omit<ResponseInputItemFunctionCallOutput, "output"> & { output: string | ResponseInputText[] };
type Filled<Input, K extends keyof Input> = { [N in K]-?: [Exclude<Input[N], undefined>] extends [never] ? never : N }[K];
/** The fields of which a published input needs one. Beside `input`, `text` is the format of the answer. */
type NeededIn<Input> = Filled<Input, keyof Input & keyof Needed> extends infer K ? ("input" extends K ? "input" : K) : never;
/** A published input of one request, as a type for each of the fields of which it needs one. A value `undefined` is absent from the JSON. */
type Forms<Input> = Input extends { requests: unknown[] } ? never : Form<Input, NeededIn<Input>>;
type Form<Input, Kind> = Kind extends keyof Input ? Given<Omit<Input, NeededIn<Input> | "stream" | "requests"> & { [K in Kind]-?: Input[K] }> : never;
type Given<Input> = { [K in keyof Input]: Exclude<Input[K], undefined> };
type FormsOf<I extends Id> = Forms<AiModels[I]["inputs"]>;
none<{ [I in Id]: [FormsOf<I>] extends [never] ? I : never }[Id]>();
none<Exclude<Newer | "@cf/meta/llama-2-7b-chat-int8" | "@cf/qwen/qwq-32b", Text>>();

/** Fields of which a published type takes values that no request may have: `ID FIELD`. */
type TooWide =
  // Any object is a list of tools, any word a format.
  | `${General} ${"tools" | "response_format"}`
  | `@cf/meta/llama-${"3.3-70b-instruct-fp8-fast" | "4-scout-17b-16e-instruct" | "guard-3-8b"} response_format`
  | `${"@cf/qwen/qwen2.5-coder-32b-instruct" | ChatOrText} response_format`
  // A message may lack its role and its text, which the service's own schemas require, or have an image, which no model here reads.
  | `${Exclude<Older, General | "@cf/meta/llama-guard-3-8b" | "@cf/qwen/qwen2.5-coder-32b-instruct"> | ChatOrText} messages`
  // The same, and audio, files, and calls of tools that take text. Such tools are refused too (5006).
  | `${Exclude<Newer, ChatOrText>} ${"messages" | "tools" | "tool_choice"}`
  // A bias that is no number: 5006.
  | `${Exclude<Newer, ChatOrText>} logit_bias`
  // An image.
  | `${ResponsesModel} input`
  // A context may lack its text.
  | "@cf/baai/bge-m3 contexts";
/** The published types of what requests may have in such fields. */
interface Narrow extends Needed {
  tools: AiTextGenerationToolLegacyInput[] | AiTextGenerationToolInput[] | ChatCompletionFunctionTool[];
  response_format: ResponseFormat;
  tool_choice: Exclude<ChatCompletionToolChoiceOption, ChatCompletionToolChoiceCustom>;
  logit_bias: Record<string, number>;
}

/** The fields of a form that `run` does not take, each beside the one that the form needs. */
type RefusedOf<I extends Id, F> = F extends unknown
  ? { [K in keyof F]-?: Called<[I, Omit<Pick<Needed, NeededIn<F> & keyof Needed>, K> & Pick<F, K>]> extends undefined ? K : never }[keyof F] & string
  : never;
type Refused = { [I in Id]: `${I} ${RefusedOf<I, FormsOf<I>>}` }[Id];
/** A published form, but with what requests may have in its refused fields. */
type Sent<I extends Id, F = FormsOf<I>> = F extends unknown ? { [K in keyof F]: K extends RefusedOf<I, F> ? Narrow[K & keyof Narrow] : F[K] } : never;

none<Exclude<Refused, TooWide>>();
none<Exclude<TooWide, Refused>>();

// ── Outputs ──

type Output<I extends Id> = AiModels[I]["postProcessedOutputs"];
/** The answer to each of an id's forms. */
type Answer<I extends Id, Extra = {}, Options extends unknown[] = [], F = Sent<I>> = F extends unknown ? Called<[I, F & Extra, ...Options]> : never;
/** An answer without what its published type says wrong. */
type AsPublished<A> = A extends TextGenerationOutput<infer Arguments>
  ? // In JSON mode it is a value, as the documentation says, and beside calls null. The types have only text.
    Omit<A, "response"> & { response: string; tool_calls?: ToolCall<Arguments>[] }
  : A extends ResponsesOutput
    ? // The types have it in chat completions only.
      Omit<A, "model">
    : A;
/** The same for the two ids in whose types a message's text is never null, as it is beside calls. */
type WithContent<A> = A extends ChatCompletion ? Omit<A, "choices"> & { choices: (A["choices"][number] & { message: { content: string } })[] } : A;

type Unfit<I extends Id> = Answer<I> extends Output<I> ? never : I;
none<{ [I in Id]: AsPublished<I extends ChatOrText ? WithContent<Answer<I>> : Answer<I>> extends Output<I> ? never : I }[Id]>();
/** Nothing else is excused. */
none<Exclude<{ [I in Id]: Unfit<I> }[Id], Older | ChatOrText | ResponsesModel>>();
none<Exclude<Older | ChatOrText | ResponsesModel, { [I in Id]: Unfit<I> }[Id]>>();

// ── Streams, raw responses and batches ──

none<{ [I in Text]: Answer<I, { stream: true }> extends ReadableStream ? never : I }[Text]>();
none<{ [I in Id]: Answer<I, {}, [{ returnRawResponse: true }]> extends Response ? never : I }[Id]>();
none<{ [I in Id]: Called<[I, { requests: Sent<I>[] }, { queueRequest: true }]> extends { request_id: string } ? never : I }[Id]>();

/** With all of them at once. */
export const whole: Ai<AiModels> = new LocalAi();
