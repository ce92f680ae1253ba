import assert from "node:assert/strict";
import { ErrorCode, generateSigningKey, TASK_PROGRESS_META } from "../../dtma/protocol.ts";
import type { ToolbeltServer } from "../../models/toolbelts.ts";
import { failure } from "../../mcp/router.ts";
import {
  createdTask,
  outcomeOf,
  pollMs,
  progressOf,
  waitForTask,
  wantsTasks,
} from "../../mcp/task_wait.ts";
import { freePort } from "../free_port.ts";

const members = (value: Record<string, unknown>) =>
  new Map(Object.entries(value).map(([name, each]) => [name, JSON.stringify(each)]));

const CLIENT = {
  agentId: null,
  sessionId: null,
  capabilities: "{}",
  clientInfo: null,
  logLevel: null,
};

Deno.test("waitForTask gives up a server that cannot be asked for long, and says that it may have run", async () => {
  const server = {
    serverId: crypto.randomUUID(),
    toolboxId: crypto.randomUUID(),
    reach: "direct",
    // Nothing listens there.
    address: `http://127.0.0.1:${freePort()}`,
    instances: "shared",
    unavailable: null,
  } as ToolbeltServer;
  const deps = { appSigningKey: await generateSigningKey(), links: null, version: "0" };
  const task = { taskId: "t", instance: null, pollMs: 0, answered: [] };
  for (const now of [server, { ...server, unavailable: "The server is stopped" }, null]) {
    const answer = await waitForTask(deps, CLIENT, task, null, {
      serverNow: () => Promise.resolve(now),
      cancels: () => true,
      progress: progressOf(undefined, () => {}),
      lostMs: 60,
    });
    assert.equal(answer.kind, "error");
    const { code, message } = JSON.parse(answer.text);
    assert.equal(code, ErrorCode.indeterminate);
    assert.match(message, /cannot be asked for it: The server[^,]*\. It may have run$/);
  }
});

Deno.test("createdTask and wantsTasks know a task, and a server that wants one", () => {
  const result = (value: unknown) => ({ kind: "result" as const, text: JSON.stringify(value) });
  assert.ok(createdTask(result({ resultType: "task", taskId: "t" })));
  assert.equal(createdTask(result({ resultType: "complete", content: ["task"] })), null);
  assert.equal(createdTask(failure(-1, `"task"`)), null);
  const refusal = (code: number, requiredCapabilities: unknown) => ({
    kind: "error" as const,
    text: JSON.stringify({ code, message: "m", data: { requiredCapabilities } }),
  });
  const tasks = { extensions: { "io.modelcontextprotocol/tasks": {} } };
  assert.equal(wantsTasks(refusal(-32021, tasks)), true);
  assert.equal(wantsTasks(refusal(-32021, { sampling: {} })), false);
  assert.equal(wantsTasks(refusal(-32000, tasks)), false);
});

Deno.test("pollMs is what the server wishes, within what is sensible", () => {
  const of = (pollIntervalMs: unknown) => pollMs(members({ pollIntervalMs }));
  assert.deepEqual([of(700), of(0), of(1), of(1e9), of("x")], [700, 1000, 50, 300_000, 1000]);
  assert.equal(pollMs(new Map()), 1000);
});

Deno.test("outcomeOf is a task's result, its error, or that there is none", () => {
  const of = (task: Record<string, unknown>) => {
    const outcome = outcomeOf(members(task));
    return outcome && [outcome.kind, JSON.parse(outcome.text)];
  };
  for (const status of ["working", "input_required", "of the future"]) {
    assert.equal(of({ status }), null);
  }
  assert.deepEqual(of({ status: "completed", result: { content: [] } }), [
    "result",
    { content: [], resultType: "complete" },
  ]);
  assert.deepEqual(of({ status: "failed", error: { code: 1 } }), ["error", { code: 1 }]);
  assert.match(
    of({ status: "cancelled", statusMessage: "Enough" })![1].message,
    /cancelled: Enough/,
  );
  for (const status of ["completed", "failed"]) {
    assert.equal(of({ status })![1].code, ErrorCode.indeterminate);
  }
});

Deno.test("a task's progress grows with each, whoever tells it", () => {
  const told: { progress: number; message?: string }[] = [];
  const progress = progressOf("7", (text) => void told.push(JSON.parse(text).params));
  progress.onNotification!(
    JSON.stringify({ method: "notifications/progress", params: { progress: 2.5 } }),
  );
  progress.goesOn(members({ statusMessage: "a" }));
  progress.goesOn(members({ statusMessage: "a" }));
  progress.goesOn(members({ statusMessage: "b" }));
  const own = { progress: 9, total: 10 };
  for (let look = 0; look < 2; look++) {
    progress.goesOn(members({ statusMessage: "b", _meta: { [TASK_PROGRESS_META]: own } }));
  }
  assert.deepEqual(told, [
    { progress: 2.5 },
    { progressToken: 7, progress: 3, message: "a" },
    { progressToken: 7, progress: 4, message: "b" },
    { progressToken: 7, progress: 9, total: 10 },
  ]);
});
