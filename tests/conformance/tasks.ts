/**
 * Tasks of 2026-07-28 (SEP-2663), which SDK 2.x's servers do not have: a layer before one that answers
 * what is about tasks and leaves all else to it. Of `test_tool_with_task` the questions come before its
 * task, and of the others in it.
 */
import { type Ask, type Round, type Tool, TOOLS } from "./everything.ts";

type Json = Record<string, unknown>;
type Outcome = { result: Json } | { error: { code: number; message: string; data?: Json } };

export interface Request {
  id?: string | number;
  method?: string;
  params?: Json & { _meta?: Record<string, Json | undefined> };
}

export const TASKS = "io.modelcontextprotocol/tasks";
const TTL_MS = 60_000;
const POLL_INTERVAL_MS = 200;

interface Task {
  about: Json & { status: string };
  /** Of what it asked: what is not answered yet. */
  pending: Ask["asks"];
  answers: Json;
  goOn(): void;
}
const tasks = new Map<string, Task>();

/** Whether a request is answered here. */
export function isOfTasks({ method, params }: Request): boolean {
  if (method === "tools/call") return toolOf(params)?.task !== undefined && wants(params);
  return ["tasks/get", "tasks/update", "tasks/cancel"].includes(method ?? "");
}

/** Answers a request that is of tasks. */
export function answerOfTasks({ method, params = {} }: Request): Outcome {
  if (!hasTasks(params)) {
    return failed(-32021, "The client has no tasks", {
      requiredCapabilities: { extensions: { [TASKS]: {} } },
    });
  }
  if (method === "tools/call") return begin(toolOf(params)!, params);
  const task = tasks.get(String(params.taskId));
  if (!task) return failed(-32602, "There is no such task");
  if (method === "tasks/get") return complete(seen(task));
  if (method === "tasks/cancel" && !isOver(task)) set(task, { status: "cancelled" });
  if (method === "tasks/update") {
    for (const [key, answer] of Object.entries(params.inputResponses as Json)) {
      if (!(key in task.pending)) continue;
      delete task.pending[key];
      task.answers[key] = answer;
    }
    if (Object.keys(task.pending).length === 0) task.goOn();
  }
  return complete({});
}

function toolOf(params: Request["params"]): Tool | undefined {
  return TOOLS.find(({ name }) => name === params?.name);
}
function hasTasks(params: Request["params"]): boolean {
  const can = params?._meta?.["io.modelcontextprotocol/clientCapabilities"];
  return (can?.extensions as Json | undefined)?.[TASKS] !== undefined;
}

/** Whether a tool's call is one for this layer: to be made a task of, or to be refused. */
function wants(params: Request["params"]): boolean {
  const isFirstRound = params?.name === "test_tool_with_task" &&
    params.inputResponses === undefined;
  return toolOf(params)?.task === "must" ? !(hasTasks(params) && isFirstRound) : hasTasks(params);
}

function begin(tool: Tool, { arguments: args = {}, inputResponses = {} }: Json): Outcome {
  const taskId = crypto.randomUUID();
  const createdAt = new Date().toISOString();
  const task: Task = {
    about: {
      taskId,
      status: "working",
      createdAt,
      lastUpdatedAt: createdAt,
      ttlMs: TTL_MS,
      pollIntervalMs: POLL_INTERVAL_MS,
    },
    pending: {},
    answers: { ...inputResponses as Json },
    goOn: () => {},
  };
  tasks.set(taskId, task);
  run(tool, args as Json, task);
  return { result: { resultType: "task", ...task.about } };
}

async function run(tool: Tool, args: Json, task: Task) {
  const silent: Omit<Round, "args" | "answers"> = {
    state: undefined,
    clientCan: () => true,
    log: () => Promise.resolve(),
    progress: () => Promise.resolve(),
    listChanged: () => Promise.resolve(),
    cutStream: () => {},
  };
  try {
    while (true) {
      const made = await tool.call({ ...silent, args, answers: task.answers });
      if (!("asks" in made)) return set(task, { status: "completed", result: made });
      task.pending = { ...(made as Ask).asks };
      set(task, { status: "input_required" });
      await new Promise<void>((resolve) => task.goOn = resolve);
      set(task, { status: "working" });
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    set(task, { status: "failed", error: { code: -32603, message } });
  }
}

function set(task: Task, change: Json & { status: string }) {
  if (!isOver(task)) Object.assign(task.about, change, { lastUpdatedAt: new Date().toISOString() });
}
function isOver({ about }: Task): boolean {
  return ["completed", "failed", "cancelled"].includes(about.status);
}
function seen({ about, pending }: Task): Json {
  return about.status === "input_required" ? { ...about, inputRequests: pending } : about;
}

function complete(result: Json): Outcome {
  return { result: { resultType: "complete", ...result } };
}
function failed(code: number, message: string, data?: Json): Outcome {
  return { error: { code, message, ...(data ? { data } : {}) } };
}
