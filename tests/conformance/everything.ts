/**
 * What the conformance suite's server scenarios ask of a server, once for all protocol revisions:
 * tools, prompts and resources by the names and texts that the scenarios' descriptions give.
 * `everything_legacy.ts` and `everything_modern.ts` serve it with the SDK of their revision.
 */
type Json = Record<string, unknown>;

/** What the server wants from the client before it can answer: requests by keys of its own. */
export interface Ask {
  asks: Record<string, { method: string; params?: Json }>;
  /** Comes back with the answers. */
  state?: Json;
}

/** One round of a call: 2026-07-28 comes again with answers, earlier revisions ask in between. */
export interface Round {
  args: Json;
  /** As the client sent them: anything. */
  answers: Record<string, unknown>;
  state: Json | undefined;
  clientCan(what: "elicitation" | "sampling" | "roots"): boolean;
  log(text: string): Promise<void>;
  /** Tells nothing if the client did not ask for progress. */
  progress(done: number, total: number): Promise<void>;
  listChanged(of: "tools" | "prompts"): Promise<void>;
  /** Cuts the stream on which the call's answer is awaited, where a transport has that. */
  cutStream(): void;
}

export interface Tool {
  name: string;
  description: string;
  inputSchema: Json & { type: "object" };
  /** Whether it is made a task of for a client that has tasks (2026-07-28), or only for one that does. */
  task?: "may" | "must";
  call(round: Round): Json | Ask | Promise<Json | Ask>;
}

export interface Prompt {
  name: string;
  description: string;
  arguments?: { name: string; description: string; required: boolean }[];
  get(round: Round): Json | Ask;
}

const RED_PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
const SILENCE = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=";

const image = { type: "image", data: RED_PIXEL, mimeType: "image/png" };
const resource = (uri: string, mimeType: string, text: string) => ({
  type: "resource",
  resource: { uri, mimeType, text },
});
const text = (words: string): Json => ({ content: [{ type: "text", text: words }] });
const object = (properties: Json, required: string[] = []) => ({
  type: "object" as const,
  properties,
  ...(required.length > 0 ? { required } : {}),
});
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const pause = () => sleep(50);

const elicit = (message: string, requestedSchema: Json) => ({
  method: "elicitation/create",
  params: { message, requestedSchema },
});
const elicitOne = (message: string, property: string, type = "string") =>
  elicit(message, object({ [property]: { type } }, [property]));
const sample = (prompt: string, maxTokens: number) => ({
  method: "sampling/createMessage",
  params: { messages: [{ role: "user", content: { type: "text", text: prompt } }], maxTokens },
});
const roots = { method: "roots/list", params: {} };

/** What was filled in, if the answer is an accepted form. */
function accepted(answer: unknown): Json | undefined {
  const { action, content } = (answer ?? {}) as Json;
  return action === "accept" && typeof content === "object" ? content as Json : undefined;
}
function sampled(answer: unknown): string | undefined {
  const words = ((answer as Json | undefined)?.content as Json | undefined)?.text;
  return typeof words === "string" ? words : undefined;
}
function rooted(answer: unknown): Json[] | undefined {
  const list = (answer as Json | undefined)?.roots;
  return Array.isArray(list) ? list : undefined;
}

/** A tool without arguments. */
const plain = (name: string, description: string, call: Tool["call"]): Tool => ({
  name,
  description,
  inputSchema: object({}),
  call,
});

/** A tool that answers with how a form was filled in. */
const form = (name: string, description: string, message: string, requestedSchema: Json) =>
  plain(name, description, ({ answers: { form } }) => {
    if (!form) return { asks: { form: elicit(message, requestedSchema) } };
    const { action, content } = form as Json;
    return text(`Elicitation completed: action=${action}, content=${JSON.stringify(content)}`);
  });

const contents = [
  plain(
    "test_simple_text",
    "Answers with text",
    () => text("This is a simple text response for testing."),
  ),
  plain("test_image_content", "Answers with an image", () => ({ content: [image] })),
  plain("test_audio_content", "Answers with sound", () => ({
    content: [{ type: "audio", data: SILENCE, mimeType: "audio/wav" }],
  })),
  plain("test_embedded_resource", "Answers with a resource", () => ({
    content: [
      resource("test://embedded-resource", "text/plain", "This is an embedded resource content."),
    ],
  })),
  plain("test_multiple_content_types", "Answers with text, an image and a resource", () => ({
    content: [
      { type: "text", text: "Multiple content types test:" },
      image,
      resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
  })),
  plain("test_error_handling", "Fails", () => ({
    isError: true,
    ...text("This tool intentionally returns an error for testing"),
  })),
];

const underWay = [
  plain("test_tool_with_logging", "Logs three times", async ({ log }) => {
    await log("Tool execution started");
    await pause();
    await log("Tool processing data");
    await pause();
    await log("Tool execution completed");
    return text("Logged three times");
  }),
  plain("test_tool_with_progress", "Tells of its progress three times", async ({ progress }) => {
    for (const done of [0, 50, 100]) {
      await progress(done, 100);
      await pause();
    }
    return text("Done");
  }),
  plain("test_reconnection", "Cuts the stream before it answers", async ({ cutStream }) => {
    cutStream();
    await pause();
    return text("The answer came after the stream was cut");
  }),
  plain("test_streaming_elicitation", "Streams nothing but its answer", () => text("No requests")),
  plain("test_logging_tool", "Logs once", async ({ log }) => {
    await log("Only for who asked for logs");
    return text("Logged once");
  }),
  plain("test_trigger_tool_change", "Says that the tools changed", async ({ listChanged }) => {
    await listChanged("tools");
    return text("Told");
  }),
  plain("test_trigger_prompt_change", "Says that the prompts changed", async ({ listChanged }) => {
    await listChanged("prompts");
    return text("Told");
  }),
];

const asking: Tool[] = [
  {
    name: "test_sampling",
    description: "Asks the client's model",
    inputSchema: object({ prompt: { type: "string" } }, ["prompt"]),
    call: ({ args, answers: { answer } }) =>
      answer
        ? text(`LLM response: ${sampled(answer)}`)
        : { asks: { answer: sample(String(args.prompt), 100) } },
  },
  {
    name: "test_elicitation",
    description: "Asks the user",
    inputSchema: object({ message: { type: "string" } }, ["message"]),
    call: ({ args, answers: { form } }) =>
      form ? text(`User response: ${JSON.stringify(form)}`) : {
        asks: {
          form: elicit(
            String(args.message),
            object({
              username: { type: "string", description: "User's response" },
              email: { type: "string", description: "User's email address" },
            }, ["username", "email"]),
          ),
        },
      },
  },
  form(
    "test_elicitation_sep1034_defaults",
    "Asks the user with a default in each field",
    "Look these over",
    object({
      name: { type: "string", default: "John Doe" },
      age: { type: "integer", default: 30 },
      score: { type: "number", default: 95.5 },
      status: { type: "string", enum: ["active", "inactive", "pending"], default: "active" },
      verified: { type: "boolean", default: true },
    }),
  ),
  form(
    "test_elicitation_sep1330_enums",
    "Asks the user with each kind of choice",
    "Choose",
    object({
      untitledSingle: { type: "string", enum: ["option1", "option2", "option3"] },
      titledSingle: {
        type: "string",
        oneOf: [
          { const: "value1", title: "First Option" },
          { const: "value2", title: "Second Option" },
          { const: "value3", title: "Third Option" },
        ],
      },
      legacyEnum: {
        type: "string",
        enum: ["opt1", "opt2", "opt3"],
        enumNames: ["Option One", "Option Two", "Option Three"],
      },
      untitledMulti: {
        type: "array",
        items: { type: "string", enum: ["option1", "option2", "option3"] },
      },
      titledMulti: {
        type: "array",
        items: {
          anyOf: [
            { const: "value1", title: "First Choice" },
            { const: "value2", title: "Second Choice" },
            { const: "value3", title: "Third Choice" },
          ],
        },
      },
    }),
  ),
  plain(
    "test_missing_capability",
    "Cannot do without sampling",
    ({ answers: { answer } }) =>
      answer ? text("Sampled") : { asks: { answer: sample("Say pong", 16) } },
  ),
];

/** SEP-2322: what 2026-07-28's requests in several rounds are tried with. */
const inRounds = [
  plain("test_input_required_result_elicitation", "Asks for a name", ({ answers }) => {
    const { name } = accepted(answers.user_name) ?? {};
    return typeof name === "string"
      ? text(`Hello, ${name}!`)
      : { asks: { user_name: elicitOne("What is your name?", "name") } };
  }),
  plain("test_input_required_result_sampling", "Asks a model", ({ answers }) => {
    const words = sampled(answers.capital_question);
    return words !== undefined
      ? text(words)
      : { asks: { capital_question: sample("What is the capital of France?", 100) } };
  }),
  plain("test_input_required_result_list_roots", "Asks for roots", ({ answers }) => {
    const list = rooted(answers.client_roots);
    return list
      ? text(`Roots: ${list.map(({ uri }) => uri).join(", ")}`)
      : { asks: { client_roots: roots } };
  }),
  plain(
    "test_input_required_result_request_state",
    "Wants its state back",
    (round) =>
      round.state?.of === "request_state" && accepted(round.answers.confirm) ? text("state-ok") : {
        asks: { confirm: elicitOne("Please confirm", "ok", "boolean") },
        state: { of: "request_state" },
      },
  ),
  plain("test_input_required_result_multiple_inputs", "Asks three ways", ({ answers }) => {
    const { name } = accepted(answers.user_name) ?? {};
    const greeting = sampled(answers.greeting);
    const list = rooted(answers.client_roots);
    if (name && greeting && list) return text(`${greeting} ${name}, of ${list.length} root(s)`);
    return {
      asks: {
        user_name: elicitOne("What is your name?", "name"),
        greeting: sample("Generate a greeting", 50),
        client_roots: roots,
      },
      state: { of: "multiple_inputs" },
    };
  }),
  plain("test_input_required_result_multi_round", "Asks twice", ({ answers, state }) => {
    const color = accepted(answers.step2)?.color;
    if (state?.round === 2 && color) return text(`${state.name} likes ${color}`);
    const name = accepted(answers.step1)?.name;
    return state?.round === 1 && name
      ? {
        asks: { step2: elicitOne("Step 2: What is your favorite color?", "color") },
        state: { round: 2, name },
      }
      : {
        asks: { step1: elicitOne("Step 1: What is your name?", "name") },
        state: { round: 1 },
      };
  }),
  plain(
    "test_input_required_result_tampered_state",
    "Knows its own state",
    (round) =>
      round.state?.of === "tampered_state" && accepted(round.answers.confirm)
        ? text("integrity-ok")
        : {
          asks: { confirm: elicitOne("Please confirm", "ok", "boolean") },
          state: { of: "tampered_state" },
        },
  ),
  plain("test_input_required_result_capabilities", "Asks what it may", (round) => {
    const { answers, clientCan } = round;
    if (Object.keys(answers).length > 0) return text(`Answered: ${Object.keys(answers)}`);
    const asks = {
      ...(clientCan("elicitation") ? { value: elicitOne("A value?", "value") } : {}),
      ...(clientCan("sampling") ? { sample: sample("Say something", 50) } : {}),
    };
    return Object.keys(asks).length > 0 ? { asks } : text("There is nothing that it may ask");
  }),
];

const described: Tool[] = [
  {
    name: "test_x_mcp_header",
    description: "Has an argument that travels in a header too (SEP-2243)",
    inputSchema: object({ region: { type: "string", "x-mcp-header": "Region" } }),
    call: ({ args }) => text(`region=${args.region}`),
  },
  {
    name: "json_schema_2020_12_tool",
    description: "Uses much of JSON Schema 2020-12",
    inputSchema: {
      $schema: "https://json-schema.org/draft/2020-12/schema",
      type: "object",
      $defs: {
        address: {
          $anchor: "addressDef",
          type: "object",
          properties: { street: { type: "string" }, city: { type: "string" } },
        },
      },
      properties: {
        name: { type: "string" },
        address: { $ref: "#/$defs/address" },
        contactMethod: { type: "string", enum: ["phone", "email"] },
        phone: { type: "string" },
        email: { type: "string" },
      },
      allOf: [{ anyOf: [{ required: ["phone"] }, { required: ["email"] }] }],
      if: { properties: { contactMethod: { const: "phone" } }, required: ["contactMethod"] },
      then: { required: ["phone"] },
      else: { required: ["email"] },
      additionalProperties: false,
    },
    call: ({ args }) => text(JSON.stringify(args)),
  },
];

/** SEP-2663: what tasks are tried with. */
const long: Tool[] = [
  {
    name: "greet",
    description: "Greets, at once",
    inputSchema: object({ name: { type: "string" } }),
    call: ({ args }) => text(`Hello, ${args.name}!`),
  },
  {
    name: "slow_compute",
    description: "Takes its time",
    inputSchema: object({ seconds: { type: "number" }, label: { type: "string" } }),
    task: "may",
    async call({ args }) {
      // Up to a minute is asked for, to be cancelled: without tasks it would be waited for.
      await sleep(Math.min(Number(args.seconds ?? 0), 3) * 1000);
      return text(`Computed ${args.label}`);
    },
  },
  {
    ...plain("failing_job", "Fails after a second", async () => {
      await sleep(1000);
      return { isError: true, ...text("It failed") };
    }),
    task: "must",
  },
  {
    ...plain("protocol_error_job", "Breaks off", () => {
      throw new Error("It broke off");
    }),
    task: "may",
  },
  {
    name: "confirm_delete",
    description: "Asks before it deletes",
    inputSchema: object({ filename: { type: "string" } }),
    task: "may",
    call: ({ args, answers: { sure } }) =>
      sure
        ? text(`Deleted: ${accepted(sure) !== undefined}`)
        : { asks: { sure: elicitOne(`Delete ${args.filename}?`, "confirm", "boolean") } },
  },
  {
    ...plain(
      "multi_input",
      "Asks two things at once",
      ({ answers: { first, second } }) =>
        first && second ? text("Both were answered") : {
          asks: { first: elicitOne("First?", "value"), second: elicitOne("Second?", "value") },
        },
    ),
    task: "may",
  },
  {
    ...plain("test_tool_with_task", "Asks first and takes its time then", async (round) => {
      const { name } = accepted(round.answers.user_name) ?? {};
      if (!name) {
        return {
          asks: { user_name: elicitOne("What is your name?", "name") },
          state: { of: "test_tool_with_task" },
        };
      }
      await sleep(200);
      return text(`Done for ${name}`);
    }),
    task: "must",
  },
];

// The first is called without arguments by scenarios that need any tool.
export const TOOLS: Tool[] = [
  ...contents,
  ...underWay,
  ...asking,
  ...inRounds,
  ...long,
  ...described,
];

const user = (...contents: Json[]): Json => ({
  messages: contents.map((content) => ({ role: "user", content })),
});
const argument = (name: string, description: string) => ({ name, description, required: true });

export const PROMPTS: Prompt[] = [
  {
    name: "test_simple_prompt",
    description: "Has no arguments",
    get: () => user({ type: "text", text: "This is a simple prompt for testing." }),
  },
  {
    name: "test_prompt_with_arguments",
    description: "Has two arguments",
    arguments: [argument("arg1", "First test argument"), argument("arg2", "Second test argument")],
    get: ({ args: { arg1, arg2 } }) =>
      user({ type: "text", text: `Prompt with arguments: arg1='${arg1}', arg2='${arg2}'` }),
  },
  {
    name: "test_prompt_with_embedded_resource",
    description: "Has a resource in it",
    arguments: [argument("resourceUri", "URI of the resource to embed")],
    get: ({ args: { resourceUri } }) =>
      user(
        resource(String(resourceUri), "text/plain", "Embedded resource content for testing."),
        { type: "text", text: "Please process the embedded resource above." },
      ),
  },
  {
    name: "test_prompt_with_image",
    description: "Has an image in it",
    get: () => user(image, { type: "text", text: "Please analyze the image above." }),
  },
  {
    name: "test_input_required_result_prompt",
    description: "Asks the user before it is made",
    get: ({ answers }) => {
      const { context } = accepted(answers.user_context) ?? {};
      return context
        ? user({ type: "text", text: `Use this context: ${context}` })
        : { asks: { user_context: elicitOne("What context should the prompt use?", "context") } };
    },
  },
];

export const RESOURCES = [
  {
    uri: "test://static-text",
    name: "static-text",
    description: "Text that does not change",
    mimeType: "text/plain",
  },
  {
    uri: "test://static-binary",
    name: "static-binary",
    description: "An image that does not change",
    mimeType: "image/png",
  },
  {
    uri: "test://watched-resource",
    name: "watched-resource",
    description: "To subscribe to",
    mimeType: "text/plain",
  },
];

export const TEMPLATES = [{
  uriTemplate: "test://template/{id}/data",
  name: "template",
  description: "Answers with the id that is asked for",
  mimeType: "application/json",
}];

/** A resource's contents, or undefined where there is none. */
export function readResource(uri: string): Json | undefined {
  const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
  if (id) {
    const data = { id, templateTest: true, data: `Data for ID: ${id}` };
    return { contents: [{ uri, mimeType: "application/json", text: JSON.stringify(data) }] };
  }
  const resource = RESOURCES.find((each) => each.uri === uri);
  if (!resource) return undefined;
  const { mimeType } = resource;
  if (mimeType === "image/png") return { contents: [{ uri, mimeType, blob: RED_PIXEL }] };
  return {
    contents: [{ uri, mimeType, text: "This is the content of the static text resource." }],
  };
}

export const SERVER = { name: "everything", version: "1.0.0" };
export const INSTRUCTIONS = "Made for the conformance suite";
export const CAPABILITIES = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  logging: {},
  completions: {},
};
export const COMPLETION = { completion: { values: ["test1", "test2"], total: 2, hasMore: false } };
