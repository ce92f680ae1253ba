/**
 * Tasks for agents, of several steps each, over four real servers; the model's part is scripted, since its
 * judgement is not what is tested. A model that reads that a call failed makes it again, as real ones do.
 */
import type { Reply, Script } from "./model_server.ts";

/** What a fault may do to the world while a task is under way. */
export interface Faults {
  /** `docker kill`s a server's container. */
  kill(server: string): Promise<void>;
  /** Has Docker restart it. */
  restart(server: string): Promise<void>;
  /** Takes a tool's approval back, and gives it again. */
  withdraw(server: string, tool: string): Promise<void>;
  approve(server: string): Promise<void>;
  /** Gives the agent's tool another name. */
  rename(server: string, tool: string, name: string): Promise<void>;
  /** Deploys another server, approves it and connects it. */
  deploy(name: string): Promise<void>;
  /** Kills the app with all that it was at, and starts it again. */
  crash(): Promise<void>;
  agent(options: Record<string, unknown>): Promise<void>;
  transport(kind: "streamable_http" | "http_sse"): Promise<void>;
}

export interface Task {
  name: string;
  /** A fault has a name of its own in the report. */
  fault?: string;
  script: (faults: Faults) => Script;
  /** What the answer has to hold. */
  answer: RegExp;
  /** Of calls that ask: what the person says. */
  decide?: "allow" | "deny";
  /** Of what servers ask: what the person answers, and what happens before they do. */
  answers?: { action: "accept" | "decline" | "cancel"; content?: Record<string, unknown> };
  whileAsked?: (faults: Faults) => Promise<void>;
  before?: (faults: Faults) => Promise<void>;
  after?: (faults: Faults) => Promise<void>;
}

type Call = [tool: string, args?: unknown];
/** Calls of one step, all at once; a fault that comes after it, which is no step; or one by what is known. */
type Move =
  | Call[]
  | { then: () => Promise<void> }
  | ((results: string[]) => Call[] | Promise<Call[]>);

const FAILED =
  /^The call failed:|^There is no tool |Unknown tool|^The server ("[^"]+" )?is (not available|starting|failed)|may have run/;
const TRIES = 25;
const AGAIN_MS = 1000;

/** A model that goes by a plan: a step after another, and then it says what came of the last. */
function plan(...moves: Move[]): Script {
  const left = [...moves];
  let last: Call[] = [], tries = 0;
  return async ({ results }): Promise<Reply> => {
    const failed = results.slice(results.length - last.length).flatMap((text, at) =>
      FAILED.test(text) ? [last[at]] : []
    );
    if (failed.length > 0 && tries++ < TRIES) {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      return reply(last = failed);
    }
    tries = 0;
    for (let move = left.shift(); move; move = left.shift()) {
      if ("then" in move) await move.then();
      else return reply(last = typeof move === "function" ? await move(results) : move);
    }
    // The end of each: a long one says there that it was cut.
    const told = results.map((result) => result.slice(-1000));
    return { reasoning: "That is all.", text: told.join("\n") };
  };
}

function reply(calls: Call[]): Reply {
  return {
    reasoning: "The next step.",
    calls: calls.map(([name, args = {}]) => ({ name, args })),
  };
}

const file = (name: string) => `/data/${name}`;
const write = (
  name: string,
  content: string,
): Call => ["files__write_file", { path: file(name), content }];
const read = (name: string): Call => ["files__read_text_file", { path: file(name) }];
const sum = (a: number, b: number): Call => ["everything__get-sum", { a, b }];
const echo = (message: string): Call => ["everything__echo", { message }];
const remember = (name: string, ...observations: string[]): Call => [
  "memory__create_entities",
  { entities: [{ name, entityType: "thing", observations }] },
];
const recall = (...names: string[]): Call => ["memory__open_nodes", { names }];
const think = (n: number, of: number, more: Record<string, unknown> = {}): Call => [
  "thinking__sequentialthinking",
  {
    thought: `Thought ${n}`,
    thoughtNumber: n,
    totalThoughts: of,
    nextThoughtNeeded: n < of,
    ...more,
  },
];
const slow = (duration: number): Call => [
  "everything__trigger-long-running-operation",
  { duration, steps: 4 },
];
const number = (text: string) => Number(/(-?\d+)\D*$/.exec(text)?.[1]);

const files: Task[] = [
  ["written and read", [[write("a.txt", "ahoy")], [read("a.txt")]], /ahoy/],
  ["in every script", [[write("ü.txt", "Ünïcode 🎉 日本")], [read("ü.txt")]], /Ünïcode 🎉 日本/],
  ["edited", [
    [write("b.txt", "red green blue")],
    [["files__edit_file", { path: file("b.txt"), edits: [{ oldText: "green", newText: "teal" }] }]],
    [read("b.txt")],
  ], /red teal blue/],
  ["in a new directory", [
    [["files__create_directory", { path: file("deep/er") }]],
    [write("deep/er/c.txt", "c")],
    [["files__list_directory", { path: file("deep/er") }]],
  ], /c\.txt/],
  ["moved", [
    [write("d.txt", "moved text")],
    [["files__move_file", { source: file("d.txt"), destination: file("e.txt") }]],
    [read("e.txt")],
  ], /moved text/],
  ["three at once", [
    [write("f1.txt", "one"), write("f2.txt", "two"), write("f3.txt", "three")],
    [["files__read_multiple_files", { paths: [file("f1.txt"), file("f2.txt"), file("f3.txt")] }]],
  ], /one[\s\S]*two[\s\S]*three/],
  ["searched", [
    [write("find-me.md", "x")],
    [["files__search_files", { path: "/data", pattern: "**/find-me*" }]],
  ], /find-me\.md/],
  ["of some size", [
    [write("big.txt", "0123456789".repeat(5000))],
    [["files__get_file_info", { path: file("big.txt") }]],
  ], /50000/],
  ["too large for a model", [
    [write("huge.txt", "0123456789".repeat(9000))],
    [read("huge.txt")],
  ], /All of it is kept for the person/],
  ["its beginning", [
    [write("lines.txt", "first\nsecond\nthird")],
    [["files__read_text_file", { path: file("lines.txt"), head: 1 }]],
  ], /^first$/m],
  ["one that is not there, and then is", [
    [["files__read_text_file", { path: file("none.txt") }]],
    [write("none.txt", "now it is")],
    [read("none.txt")],
  ], /now it is/],
  ["outside of its directory is refused", [
    [["files__list_allowed_directories"]],
    [["files__read_text_file", { path: "/etc/passwd" }]],
  ], /[Aa]ccess denied/],
].map(([name, moves, answer]) => task(`files: ${name}`, moves as Move[], answer as RegExp));

const memory: Task[] = [
  ["remembered", [[remember("Ann", "knits")], [recall("Ann")]], /knits/],
  ["more about one", [
    [remember("Bob", "sails")],
    [["memory__add_observations", { observations: [{ entityName: "Bob", contents: ["bakes"] }] }]],
    [recall("Bob")],
  ], /sails[\s\S]*bakes/],
  ["two that belong together", [
    [remember("Cat", "a cat")],
    [remember("Dog", "a dog")],
    [["memory__create_relations", {
      relations: [{ from: "Cat", to: "Dog", relationType: "fears" }],
    }]],
    [recall("Cat", "Dog")],
  ], /fears/],
  ["forgotten", [
    [remember("Eve", "a secret")],
    [["memory__delete_entities", { entityNames: ["Eve"] }]],
    [["memory__search_nodes", { query: "a secret" }]],
  ], /"entities": \[\]/],
  ["searched", [[remember("Fay", "climbs mountains")], [["memory__search_nodes", {
    query: "mountains",
  }]]], /Fay/],
  ["the whole graph", [[remember("Gus", "whistles")], [["memory__read_graph"]]], /whistles/],
].map(([name, moves, answer]) => task(`memory: ${name}`, moves as Move[], answer as RegExp));

const others: Task[] = [
  task("arithmetic: a chain of sums", [
    [sum(1, 2)],
    (results) => [sum(number(results[0]), 4)],
    (results) => [sum(number(results[1]), 35)],
  ], /is 42/),
  task("arithmetic: four sums at once, and their sum", [
    [sum(1, 1), sum(2, 2), sum(3, 3), sum(4, 4)],
    ([a, b]) => [sum(number(a), number(b))],
    (results) => [sum(number(results[4]), number(results[3]))],
  ], /is 14/),
  task("arithmetic: negative, and not whole", [[sum(-5, 3)], [sum(0.5, 0.25)]], /0\.75/),
  task("everything: a picture is for the person", [[["everything__get-tiny-image"]], [
    echo("seen"),
  ]], /seen/),
  task("everything: structured content", [
    [echo("weather")],
    [["everything__get-structured-content", { location: "New York" }]],
  ], /temperature/),
  task("everything: links to resources", [[echo("x")], [["everything__get-resource-links", {
    count: 2,
  }]]], /link/i),
  task("everything: an embedded resource", [
    [["everything__get-resource-reference", { resourceType: "Text", resourceId: 1 }]],
    [echo("done")],
  ], /done/),
  task("everything: eight calls at once", [
    Array.from({ length: 8 }, (_, at) => echo(`e${at}`)),
    [echo("after all")],
  ], /after all/),
  task("thinking: a chain", [[think(1, 3)], [think(2, 3)], [think(3, 3)]], /"thoughtNumber": 3/),
  task("thinking: a revision", [
    [think(1, 2)],
    [think(2, 2, { isRevision: true, revisesThought: 1 })],
  ], /"thoughtNumber": 2/),
  task("thinking: a branch", [
    [think(1, 2)],
    [think(2, 2, { branchFromThought: 1, branchId: "other" })],
  ], /other/),
  task("several: a sum into a file", [
    [sum(20, 22)],
    (results) => [write("sum.txt", results[0])],
    [read("sum.txt")],
  ], /42/),
  task("several: a file into memory", [
    [write("g.txt", "Hal plays chess")],
    [read("g.txt")],
    (results) => [remember("Hal", results[1])],
    [recall("Hal")],
  ], /plays chess/),
  task("several: all four at once", [
    [sum(1, 1), write("h.txt", "h"), remember("Ida", "runs"), think(1, 1)],
    [read("h.txt"), recall("Ida")],
  ], /h\n[\s\S]*runs/),
  task("several: memory, thought and a sum", [
    [remember("Jay", "is 20")],
    [recall("Jay"), think(1, 2)],
    () => [sum(20, 1)],
  ], /is 21/),
  task("several: ten steps", [
    ...Array.from({ length: 9 }, (_, at): Move => [at % 2 ? echo(`s${at}`) : sum(at, 1)]),
    [echo("the tenth")],
  ], /the tenth/),
];

const faults: Task[] = [
  ...["files", "memory", "everything", "thinking"].map((server) =>
    fault("a container is killed between steps", `${server} is killed`, (world) => [
      [write("k.txt", "kept"), remember("Kim", "stays"), echo("a"), think(1, 2)],
      { then: () => world.kill(server) },
      [read("k.txt"), recall("Kim"), echo("b"), think(2, 2)],
    ], /^(?=[\s\S]*kept)(?=[\s\S]*stays)(?=[\s\S]*Echo: b)/)
  ),
  ...["files", "everything"].map((server) =>
    fault("a container is restarted", `${server} is restarted by Docker`, (world) => [
      [write("r.txt", "still here")],
      { then: () => world.restart(server) },
      [read("r.txt"), echo("yes")],
    ], /^(?=[\s\S]*still here)(?=[\s\S]*Echo: yes)/)
  ),
  fault("a container is killed in a call", "everything is killed at work", (world) => {
    let isFirst = true;
    return [
      [echo("a")],
      () => {
        if (isFirst) setTimeout(() => void world.kill("everything").catch(() => {}), 1000);
        isFirst = false;
        return [slow(4)];
      },
      [echo("on")],
    ];
  }, /on/),
  fault("a slow tool", "six seconds", () => [[echo("a")], [slow(6)], [echo("at last")]], /at last/),
  fault(
    "a slow tool",
    "slow and quick at once",
    () => [[slow(3), echo("quick")], [echo("both")]],
    /both/,
  ),
  fault("a changed tool", "withdrawn and approved again", (world) => [
    [echo("a")],
    { then: () => world.withdraw("everything", "echo") },
    {
      then: () => {
        setTimeout(() => void world.approve("everything").catch(() => {}), 1500);
        return Promise.resolve();
      },
    },
    [echo("approved")],
  ], /approved/),
  fault("a changed tool", "renamed for the agent", (world) => [
    [echo("a")],
    { then: () => world.rename("everything", "echo", "say") },
    [["everything__say", { message: "renamed" }]],
    { then: () => world.rename("everything", "echo", "echo") },
    [echo("and back")],
  ], /and back/),
  fault("a new server", "deployed within the turn", (world) => [
    [echo("a")],
    { then: () => world.deploy("later") },
    [["later__echo", { message: "new" }]],
  ], /new/),
  fault(
    "a broken model",
    "its stream breaks twice",
    () => withBreaks(2, plan([echo("a")], [sum(2, 3)])),
    /is 5/,
  ),
  fault("a broken model", "it is busy", () => {
    const go = plan([echo("a")], [sum(3, 3)]);
    let n = 0;
    return (asked, at) => n++ === 1 ? { status: 429, retryAfterS: 1, text: "busy" } : go(asked, at);
  }, /is 6/),
  fault("a broken model", "it is out of order", () => {
    const go = plan([echo("a")], [sum(4, 3)]);
    let n = 0;
    return (asked, at) => n++ < 2 ? { status: 503, text: "overloaded" } : go(asked, at);
  }, /is 7/),
  fault("the app is killed in a turn", "and it is tried again", (world) => {
    let isFirst = true;
    return async ({ results }) => {
      if (results.length === 0) return reply([write("crash.txt", "before")]);
      if (results.length > 1) return { text: results[1] };
      if (!isFirst) return reply([read("crash.txt")]);
      isFirst = false;
      await world.crash();
      // Whoever asked is gone.
      return { text: "nobody hears this", breaks: true };
    };
  }, /before/),
];

const ways: Task[] = [
  {
    ...task("asked for: allowed", [[write("ask.txt", "asked")], [read("ask.txt")]], /asked/),
    decide: "allow",
    before: (world) => world.agent({ asks: "writes" }),
    after: (world) => world.agent({ asks: "never" }),
  },
  {
    ...task("asked for: denied", [[write("deny.txt", "x")]], /did not allow/),
    decide: "deny",
    before: (world) => world.agent({ asks: "writes" }),
    after: (world) => world.agent({ asks: "never" }),
  },
  {
    ...task("tool search: found and called", [
      [["find_tools", { query: "add two numbers" }]],
      [["call_tool", { name: "everything__get-sum", arguments: { a: 5, b: 6 } }]],
    ], /is 11/),
    before: (world) => world.agent({ presents: "search" }),
    after: (world) => world.agent({ presents: "tools" }),
  },
  {
    ...task("over HTTP+SSE: several servers", [[sum(6, 6), write("sse.txt", "s")], [
      read("sse.txt"),
    ]], /s/),
    before: (world) => world.transport("http_sse"),
    after: (world) => world.transport("streamable_http"),
  },
  {
    ...task("over HTTP+SSE: a slow tool", [[slow(2)], [echo("over sse")]], /over sse/),
    before: (world) => world.transport("http_sse"),
    after: (world) => world.transport("streamable_http"),
  },
];

const ASKING = "everything__trigger-elicitation-request";
const ANN = { action: "accept" as const, content: { name: "Ann of the quay", check: true } };

/** What a server asks of the person in the middle of a call. */
const questions: Task[] = [
  {
    ...task(
      "asked by a server: answered",
      [[[ASKING]], [echo("and on")]],
      /Ann of the quay[\s\S]*and on/,
    ),
    answers: ANN,
  },
  {
    ...task("asked by a server: declined", [[[ASKING]]], /declined/i),
    answers: { action: "decline" },
  },
  {
    ...task("asked by a server: dismissed", [[[ASKING]]], /cancel|dismiss/i),
    answers: { action: "cancel" },
  },
  {
    ...task("asked by a server: beside other servers' calls", [
      [[ASKING], write("asked.txt", "beside")],
      [read("asked.txt")],
    ], /Ann of the quay[\s\S]*beside/),
    answers: ANN,
  },
  {
    ...task("asked by a server: through tool search", [
      [["call_tool", { name: ASKING, arguments: {} }]],
    ], /Ann of the quay/),
    answers: ANN,
    before: (world) => world.agent({ presents: "search" }),
    after: (world) => world.agent({ presents: "tools" }),
  },
  {
    // Whether the server's question outlives it depends on who held the call; it is asked anew if not.
    ...fault(
      "app killed",
      "while a server asks",
      () => [[[ASKING]], [echo("still here")]],
      /still here/,
    ),
    answers: ANN,
    whileAsked: (world) => world.crash(),
  },
];

export const TASKS: Task[] = [...files, ...memory, ...others, ...ways, ...questions, ...faults];

function task(name: string, moves: Move[], answer: RegExp): Task {
  return { name, script: () => plan(...moves), answer };
}

function fault(
  kind: string,
  name: string,
  make: (faults: Faults) => Move[] | Script,
  answer: RegExp,
): Task {
  return {
    name: `${kind}: ${name}`,
    fault: kind,
    answer,
    script: (world) => {
      const made = make(world);
      return typeof made === "function" ? made : plan(...made);
    },
  };
}

/** The first answers break off; what they would have said comes with the next one. */
function withBreaks(times: number, go: Script): Script {
  let left = times;
  return (asked, n) => left-- > 0 ? { text: "I be", breaks: true } : go(asked, n);
}
