/**
 * `deno task agents`: all tasks over Mooring as it is started, on real containers, by its API. Prints each, the
 * share that was carried through, how soon what was deployed is found, and a last line of counts.
 */
import { Docker } from "../../dtma/docker.ts";
import { Label } from "../../dtma/policy.ts";
import { absent } from "../dtma/engine.ts";
import { App, eventually, OWNER, personalToken, withDataDirectory } from "../e2e/app.ts";
import { freePort } from "../free_port.ts";
import { openModelServer } from "./model_server.ts";
import { type Faults, type Task, TASKS } from "./tasks.ts";

const SERVERS = {
  files: "filesystem",
  memory: "memory",
  everything: "everything",
  thinking: "sequential-thinking",
};
/** A task that takes longer is not carried through. */
const TASK_LIMIT_MS = 120_000;
const DISCOVERIES = 5;

export interface Report {
  passed: string[];
  failed: string[];
  /** From the deploy request to the first step that was given the tool, in ms. */
  discoveredMs: number[];
}

// deno-lint-ignore no-explicit-any -- what the API answers
type Answer = any;

/**
 * How long it is from a deploy within a turn, its image present, to the step of the model that is given its
 * tools, in ms: with the approval of all of them, the connection, and the looking of the program that does it.
 */
export async function measureDiscovery(count: number): Promise<number[]> {
  const servers = { everything: SERVERS.everything };
  const asked = { only: /^$/, servers, discoveries: count };
  return (await runAgents(() => {}, asked)).discoveredMs;
}

/** Runs the tasks whose names match, and then deploys so many servers within turns. */
export async function runAgents(
  say: (line: string) => void,
  { only = /./, servers = SERVERS, discoveries = DISCOVERIES }: {
    only?: RegExp;
    servers?: Record<string, string>;
    discoveries?: number;
  } = {},
): Promise<Report> {
  const report: Report = { passed: [], failed: [], discoveredMs: [] };
  await withDataDirectory(async (dataDirectory) => {
    await using model = openModelServer(() => ({ text: "Nothing is scripted" }));
    const environment = { ...OWNER, MODEL_PRIVATE_HOSTS: model.host };
    const started = { dataDirectory, port: freePort(), environment };
    let app = await App.start(started);
    const docker = new Docker();
    try {
      await app.toolboxId();
      const token = await personalToken(app.url);
      const api = async (method: string, path: string, body?: unknown): Promise<Answer> => {
        const response = await fetch(`${app.url}/api/v1${path}`, {
          method,
          headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
          body: body === undefined ? undefined : JSON.stringify(body),
        });
        const text = await response.text();
        if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
        return text === "" ? null : JSON.parse(text);
      };
      const named = { provider: "openai-compatible", baseUrl: model.base, model: "scripted" };
      await api("PUT", "/workspace/model", { ...named, key: "sk-secret" });
      const agent = await api("POST", "/agents", { name: "Worker", asks: "never" });
      const ids: Record<string, string> = {};

      const deploy = async (name: string, entry: string) => {
        const { id } = await api("POST", "/servers", { entry, name, inputs: {} });
        ids[name] = id;
        await eventually(`${name} lists its tools`, async () => {
          const { items } = await api("GET", `/servers/${id}/tools`);
          return items.length > 0;
        }, 300_000);
        await approve(name);
        await api("PUT", `/agents/${agent.id}/connections/${id}`, {});
      };
      const approve = async (name: string) => {
        const { items } = await api("GET", `/servers/${ids[name]}/tools`);
        const definitions = items.map(({ name, hash }: Answer) => ({ name, hash }));
        await api("POST", `/servers/${ids[name]}/approvals`, { definitions });
      };
      const containerOf = async (name: string) => {
        const label = `${Label.server}=${ids[name]}`;
        const all = await docker.listContainers([label]) as { Id: string; State: string }[];
        const running = all.find(({ State }) => State === "running");
        if (running) return running.Id;
        throw new Error(`${name} has no container`);
      };
      const engine = async (...args: string[]) => {
        const { success, stderr } = await new Deno.Command("docker", { args, stdout: "null" })
          .output();
        if (!success) throw new Error(new TextDecoder().decode(stderr));
      };

      const faults: Faults = {
        kill: async (name) => await engine("kill", await containerOf(name)),
        restart: async (name) => await engine("restart", "--time=0", await containerOf(name)),
        withdraw: (name, tool) =>
          api("POST", `/servers/${ids[name]}/approvals/withdraw`, { names: [tool] }),
        approve,
        rename: async (name, tool, as) =>
          await api(
            "PUT",
            `/agents/${agent.id}/connections/${ids[name]}/tools/${tool}`,
            as === tool ? {} : { name: as },
          ),
        deploy: (name) => deploy(name, "everything"),
        async crash() {
          await app.kill();
          app = await App.start(started);
          await app.toolboxId();
        },
        agent: (options) => api("PATCH", `/agents/${agent.id}`, options),
        transport: (transport) => api("PUT", "/workspace/model", { ...named, transport }),
      };

      for (const [name, entry] of Object.entries(servers)) await deploy(name, entry);
      say(`${Object.keys(servers).length} servers run in containers`);

      for (const task of TASKS.filter(({ name }) => only.test(name))) {
        const started = performance.now();
        let trouble: string | null = null;
        try {
          await task.before?.(faults);
          model.play(task.script(faults));
          trouble = await carry(api, agent.id, task, faults);
          await task.after?.(faults);
        } catch (error) {
          trouble = String(error);
        }
        const ms = Math.round(performance.now() - started);
        (trouble === null ? report.passed : report.failed).push(task.name);
        say(
          `${trouble === null ? "✓" : "✗"} ${task.name} (${ms} ms)${trouble ? `: ${trouble}` : ""}`,
        );
      }
      for (let n = 0; n < discoveries; n++) {
        report.discoveredMs.push(await discovery(api, agent.id, model, faults, `new-${n}`));
      }
      if (discoveries > 0) {
        const sorted = report.discoveredMs.toSorted((a, b) => a - b);
        say(`Deployed to given in a next step, ms: ${sorted.map(Math.round).join(", ")}`);
      }
    } finally {
      docker.close();
      await app.end();
    }
  });
  return report;
}

type Api = (method: string, path: string, body?: unknown) => Promise<Answer>;

/** Says a task and waits for its answer, as a person would: they allow, and try again what failed once. */
async function carry(
  api: Api,
  agentId: string,
  task: Task,
  faults: Faults,
): Promise<string | null> {
  const { id } = await api("POST", "/conversations", { agent: agentId, text: task.name });
  const until = Date.now() + TASK_LIMIT_MS;
  let retries = 0, hasFault = task.whileAsked !== undefined;
  while (Date.now() < until) {
    const conversation = await api("GET", `/conversations/${id}`).catch((error) => {
      if (error instanceof TypeError) return null; // the app is being started again
      throw error;
    });
    const turn = conversation?.turns.at(-1);
    if (turn?.state === "waiting") {
      for (const call of turn.steps.at(-1).calls) {
        for (const question of call.questions) {
          if (question.state !== "open") continue;
          if (hasFault) await task.whileAsked!(faults);
          hasFault = false;
          const at = `/conversations/${id}/questions/${question.id}/answer`;
          await api("POST", at, task.answers);
        }
        if (call.state !== "asked") continue;
        const allow = task.decide === "allow";
        await api("POST", `/conversations/${id}/calls/${call.id}/decision`, { allow });
      }
    } else if (turn?.state === "done") {
      const text = turn.steps.at(-1).text;
      return task.answer.test(text) ? null : `it answered ${JSON.stringify(text.slice(0, 300))}`;
    } else if (turn && turn.state !== "running") {
      if (turn.state !== "lost" || retries++ > 0) return `${turn.state}: ${turn.trouble}`;
      await api("POST", `/conversations/${id}/turns/${turn.id}/retry`, {});
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return `no answer within ${TASK_LIMIT_MS / 1000} s`;
}

/** How long it is from a deploy within a turn to the step that is given its tools. */
async function discovery(
  api: Api,
  agentId: string,
  model: ReturnType<typeof openModelServer>,
  faults: Faults,
  name: string,
): Promise<number> {
  let began = 0, found = 0;
  model.play(async ({ tools, results }) => {
    if (results.length === 0) {
      began = performance.now();
      await faults.deploy(name);
      return { calls: [{ name: "everything__echo", args: { message: "x" } }] };
    }
    if (tools.includes(`${name}__echo`)) found = performance.now();
    return { text: "seen" };
  });
  const task = { name: `discover ${name}`, answer: /seen/, script: () => () => ({}) };
  await carry(api, agentId, task, faults);
  return found === 0 ? Infinity : found - began;
}

if (import.meta.main) {
  if (absent) {
    console.log(`SKIPPED, agents' tasks on real containers: ${absent}`);
    console.log(`0 passed, 0 failed, ${TASKS.length} skipped`);
    Deno.exit(1);
  }
  const some = Deno.args[0] ? { only: new RegExp(Deno.args[0]), discoveries: 0 } : {};
  const { passed, failed } = await runAgents((line) => console.log(line), some);
  const share = passed.length / (passed.length + failed.length);
  console.log(`Carried through: ${(share * 100).toFixed(1)} %`);
  console.log(`${passed.length} passed, ${failed.length} failed, 0 skipped`);
  Deno.exit(share >= 0.98 ? 0 : 1);
}
