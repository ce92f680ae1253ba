import assert from "node:assert/strict";
import { linkServing } from "../../dtma/data_path.ts";
import { type Docker, DockerError } from "../../dtma/docker.ts";
import { Label } from "../../dtma/policy.ts";
import { CANCEL_METHOD, END_METHOD, ErrorCode, PIN_META, promptHash } from "../../dtma/protocol.ts";
import { engineTest, FixtureImages, fixtureSpec, type Toolbox } from "./engine.ts";
import { Dtma, eventually } from "./observed.ts";

const META = { "io.modelcontextprotocol/protocolVersion": "2026-07-28" };
const CAPABILITIES = {
  "io.modelcontextprotocol/clientCapabilities": { elicitation: {}, roots: {} },
};
const FORM = {
  method: "elicitation/create",
  params: { message: "?", requestedSchema: { type: "object", properties: {} } },
};

const containersOf = ({ docker, id }: Toolbox) =>
  docker.listContainers([`${Label.toolbox}=${id}`, Label.server]);

/** The data path of a DTMA, as a link has it. */
function pathOf({ reconciler }: Dtma, serverId: string) {
  const serve = linkServing({
    reach: reconciler.reach.bind(reconciler),
    end: reconciler.end.bind(reconciler),
    logOf: reconciler.log.bind(reconciler),
  });
  return async function ask(
    method: string,
    params: Record<string, unknown>,
    { instance = null, meta = {}, signal = new AbortController().signal, notify = () => {} }: {
      instance?: string | null;
      meta?: object;
      signal?: AbortSignal;
      notify?: (text: string) => void;
    } = {},
  ) {
    const request = {
      jsonrpc: "2.0",
      id: "id",
      method,
      params: { ...params, _meta: { ...META, ...meta } },
    };
    const text = JSON.stringify(request);
    return JSON.parse(String(await serve({ serverId, instance, text, signal, notify })));
  };
}

/** The pins of what a server lists. */
async function pinsOf(dtma: Dtma, serverId: string, instance: string | null = null) {
  const route = await dtma.reconciler.reach(serverId, instance);
  if ("unavailable" in route) throw new Error(route.unavailable);
  return route;
}

engineTest("Each session gets an instance of its own, until it is ended", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    const spec = fixtureSpec("questions", { instances: "session" });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const ask = pathOf(dtma, spec.serverId);
    const { toolHashes } = await pinsOf(dtma, spec.serverId);
    const call = (instance: string, name: string, params: object = {}) =>
      ask("tools/call", { name, arguments: {}, ...params }, {
        instance,
        meta: { ...CAPABILITIES, [PIN_META]: toolHashes.get(name) },
      });
    const asks = { arguments: { requests: [FORM] } };
    const [one, two] = [crypto.randomUUID(), crypto.randomUUID()];

    // Each is asked by its own instance alone, at the same time.
    const answers = await Promise.all([one, two].map((each) => call(each, "asks", asks)));
    for (const { result } of answers) assert.deepEqual(result.inputRequests, { "1": FORM });
    assert.equal((await containersOf(toolbox)).length, 3);
    const [{ requestState }] = answers.map(({ result }) => result);
    const retry = { ...asks, requestState, inputResponses: { "1": { action: "decline" } } };
    assert.equal((await call(two, "asks", retry)).error.code, ErrorCode.indeterminate);
    const { result } = await call(one, "asks", retry);
    assert.deepEqual(result.structuredContent.value, [{ result: { action: "decline" } }]);

    assert.deepEqual((await ask(END_METHOD, {}, { instance: one })).result, {
      resultType: "complete",
    });
    assert.ok((await ask(END_METHOD, {}, { instance: one })).result, "again");
    assert.ok(
      (await ask(END_METHOD, {}, { instance: null })).result,
      "the shared one is not ended",
    );
    // One of the same key waits for the end of the one before.
    assert.ok((await call(one, "seen")).result);
    await ask(END_METHOD, {}, { instance: one });
    await ask(END_METHOD, {}, { instance: two });
    await eventually(async () => (await containersOf(toolbox)).length === 1);
    assert.ok((await ask("tools/list", {})).result);

    // What was held there is lost, and says so: it may have run.
    const held = answers[1].result.requestState;
    assert.equal(
      (await call(two, "asks", { ...retry, requestState: held })).error.code,
      ErrorCode.indeterminate,
    );
    // Ended while it starts.
    const starting = call(crypto.randomUUID(), "seen");
    const third = crypto.randomUUID();
    const ended = call(third, "seen");
    await ask(END_METHOD, {}, { instance: third });
    assert.equal((await ended).error.code, ErrorCode.serverUnavailable);
    assert.ok((await starting).result);
    await eventually(async () => (await containersOf(toolbox)).length === 3);
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest("Instances that did not start take no other's place", async (toolbox) => {
  let refuses = true;
  const docker = new Proxy(toolbox.docker, {
    get(target, name) {
      const value = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      if (name !== "createContainer") return value.bind(target);
      return (...made: Parameters<Docker["createContainer"]>) => {
        const { Labels } = made[1] as { Labels: Record<string, string> };
        if (refuses && Label.instance in Labels) throw new DockerError(500, "no room");
        return target.createContainer(...made);
      };
    },
  });
  const dtma = await Dtma.start({ ...toolbox, docker }, new FixtureImages(toolbox));
  try {
    const spec = fixtureSpec("echo", { instances: "session" });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const reach = () => dtma.reconciler.reach(spec.serverId, crypto.randomUUID());
    for (let session = 0; session < 32; session++) {
      const route = await reach();
      assert.match("unavailable" in route ? route.unavailable : "", /did not start: .*no room/);
    }
    refuses = false;
    assert.ok("session" in await reach());
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest("DTMA ends in the middle of ending an instance", async (toolbox) => {
  const { docker } = toolbox;
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  const [ending, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const remove = docker.removeContainer.bind(docker);
  const rejections: unknown[] = [];
  const onRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    rejections.push(event.reason);
  };
  addEventListener("unhandledrejection", onRejection);
  try {
    const spec = fixtureSpec("keeps", { instances: "session" });
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const session = crypto.randomUUID();
    await pinsOf(dtma, spec.serverId, session);
    docker.removeContainer = async (id) => {
      ending.resolve();
      await ended.promise;
      await remove(id);
    };
    dtma.reconciler.end(spec.serverId, session);
    await ending.promise;
  } finally {
    await dtma.reconciler.close();
    ended.resolve();
    docker.removeContainer = remove;
  }
  await eventually(async () => (await containersOf(toolbox)).length === 1);
  await new Promise((resolve) => setTimeout(resolve, 100));
  removeEventListener("unhandledrejection", onRejection);
  assert.deepEqual(rejections, []);
});

engineTest("A question that is nobody's advises an instance for each", async (toolbox) => {
  const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
  try {
    const spec = fixtureSpec("questions");
    dtma.reconciler.apply([spec]);
    await dtma.ready(spec);
    const ask = pathOf(dtma, spec.serverId);
    const { toolHashes } = await pinsOf(dtma, spec.serverId);
    const call = (name: string, params: object = {}) =>
      ask("tools/call", { name, arguments: {}, ...params }, {
        meta: { ...CAPABILITIES, [PIN_META]: toolHashes.get(name) },
      });
    const waiting = call("waits");
    const asks = { arguments: { requests: [FORM] } };
    for (let n = 0; n < 3; n++) {
      const { result } = await call("asks", asks);
      assert.match(result.structuredContent.value[0].error.message, /an instance for each agent/);
    }
    await call("release");
    await waiting;
    const advice = dtma.events.filter(({ message }) => message.includes("asked something"));
    assert.deepEqual(advice.map(({ level }) => level), ["warning"]);
    assert.match(advice[0].message, /asked something \(elicitation\/create\) while several calls/);

    // A caller that gave up between two tries.
    const { requestState } = (await call("asks", asks)).result;
    assert.ok((await ask(CANCEL_METHOD, { requestState })).result);
    const { error } = await call("asks", { ...asks, requestState });
    assert.equal(error.code, ErrorCode.indeterminate);

    // Of a server that is stopped as well.
    const held = (await call("asks", asks)).result?.requestState ?? requestState;
    const stopped = { ...spec, generation: 2, running: false };
    dtma.reconciler.apply([stopped]);
    await dtma.until(stopped, ({ layers }) => layers.container.state === "stopped");
    const late = await call("asks", { ...asks, requestState: held });
    assert.equal(late.error.code, ErrorCode.indeterminate);
    assert.equal((await call("asks", asks)).error.code, ErrorCode.serverUnavailable);
    assert.ok((await ask(CANCEL_METHOD, { requestState: held })).result);
  } finally {
    await dtma.reconciler.close();
  }
});

engineTest(
  "Prompts and templates are observed, and prompts are called by their pin",
  async (toolbox) => {
    const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
    try {
      const spec = fixtureSpec("resources");
      dtma.reconciler.apply([spec]);
      const seen = await dtma.until(spec, ({ prompts }) => prompts !== null);
      assert.equal(seen.instructions, "Read before you ask");
      assert.deepEqual(seen.capabilities!.prompts, { listChanged: true });
      const [prompt] = seen.prompts!;
      assert.equal(prompt.name, "prompt-1");
      assert.deepEqual(seen.resourceTemplates, [
        { name: "template-1", uriTemplate: "file:///1/{path}" },
      ]);
      const ask = pathOf(dtma, spec.serverId);
      const get = async (pin: string) =>
        await ask("prompts/get", { name: "prompt-1" }, { meta: { [PIN_META]: pin } });
      const pin = await promptHash(prompt);
      assert.equal((await get(pin)).result.description, "prompt-1");
      assert.equal((await get("0".repeat(64))).error.code, ErrorCode.definitionChanged);

      const { toolHashes } = await pinsOf(dtma, spec.serverId);
      const meta = { [PIN_META]: toolHashes.get("changes") };
      for (const list of ["prompts", "resources"]) {
        const given = { name: "changes", arguments: { list, times: 100 } };
        assert.ok((await ask("tools/call", given, { meta })).result);
      }
      const changed = await dtma.until(
        spec,
        ({ prompts, resourceTemplates }) =>
          prompts?.length === 2 && resourceTemplates?.length === 2,
      );
      assert.equal(changed.tools!.length, seen.tools!.length);
      await eventually(async () => "result" in await get(pin));

      const failing = fixtureSpec("resources", { environment: { FAILS: "prompts/list" } });
      dtma.reconciler.apply([spec, failing]);
      const without = await dtma.until(
        failing,
        ({ resourceTemplates }) => resourceTemplates !== null,
      );
      assert.equal(without.prompts, null);
      const warning = dtma.events.find(({ serverId, level }) =>
        serverId === failing.serverId && level === "warning"
      );
      assert.match(warning!.message, /did not list its prompts: Out of order \(-32603\)/);
    } finally {
      await dtma.reconciler.close();
    }
  },
);

engineTest(
  "Who listens for lists wakes no sleeping server, who listens to a resource keeps it up",
  async (toolbox) => {
    const dtma = await Dtma.start(toolbox, new FixtureImages(toolbox));
    try {
      const spec = fixtureSpec("resources", { idleStopS: 5 });
      dtma.reconciler.apply([spec]);
      await dtma.ready(spec);
      const ask = pathOf(dtma, spec.serverId);
      const listen = (notifications: object) => {
        const stop = new AbortController();
        const heard: string[] = [];
        const ended = ask("subscriptions/listen", { notifications }, {
          signal: stop.signal,
          notify: (text) => heard.push(text),
        });
        ended.catch(() => {});
        return { heard, ended, stop: () => stop.abort(new Error("enough")) };
      };
      const first = listen({ promptsListChanged: true });
      await eventually(() => first.heard.length === 1);
      const slept = () => dtma.seen(spec.serverId)?.layers.container.state === "idle";
      await eventually(slept);
      assert.equal((await first.ended).result.resultType, "complete");
      const second = listen({ promptsListChanged: true });
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.ok(slept() && second.heard.length === 0);

      const third = listen({ resourceSubscriptions: ["file:///1"] });
      await eventually(() => third.heard.length === 1 && second.heard.length === 1);
      assert.ok(!slept());
      await new Promise((resolve) => setTimeout(resolve, 6000));
      assert.ok(!slept());
      third.stop();
      await assert.rejects(third.ended);
      await eventually(slept);
      assert.ok((await second.ended).result);
    } finally {
      await dtma.reconciler.close();
    }
  },
);
