/** No registry answers here: what base images stand on is what images/base.ts assembled before. */
import assert from "node:assert/strict";
import { BaseImages, FILES_LABEL } from "../../dtma/base_images.ts";
import { ImageError } from "../../dtma/image_error.ts";
import { BASES } from "../../dtma/image_recipes.ts";
import { writeTar } from "../../dtma/tar.ts";
import { engineTest } from "./engine.ts";

const PARENTS = ["mooring/debian-node:24", "docker.io/library/node:24-slim"];

engineTest(
  "BaseImages makes a missing base once, as images/base.ts does",
  async ({ docker, id }) => {
    const parent = (await Promise.all(PARENTS.map((each) => docker.inspectImage(each))))
      .findIndex((image) => image !== null);
    if (parent < 0) return console.log(`SKIPPED: none of ${PARENTS.join(", ")} is here`);
    const names = { ...BASES, node: `mooring-test/base:${id}` };
    const bases = new BaseImages({
      docker,
      names,
      parents: { node: PARENTS[parent] },
      makes: true,
    });
    try {
      assert.equal(await bases.find("node"), null);
      const lines: string[] = [];
      const [one, other] = await Promise.all([
        bases.ensure("node", (line) => lines.push(line)),
        bases.ensure("node", (line) => lines.push(line)),
      ]);
      assert.equal(one, other);
      assert.equal(lines.filter((line) => line.startsWith("Building")).length, 1);
      const made = (await docker.inspectImage(one))!.Config;
      const right = (await docker.inspectImage(BASES.node))!.Config;
      assert.equal(made.WorkingDir, right.WorkingDir);
      const container = await docker.createContainer(`mooring-test-${id}`, {
        Image: one,
        Entrypoint: ["/mooring/launch"],
      });
      await docker.removeContainer(container);
    } finally {
      await docker.removeImage(names.node);
    }
  },
);

engineTest("BaseImages makes a base anew that another version of DTMA made", async (toolbox) => {
  const { docker, id } = toolbox;
  const parent = (await Promise.all(PARENTS.map((each) => docker.inspectImage(each))))
    .findIndex((image) => image !== null);
  if (parent < 0) return console.log(`SKIPPED: none of ${PARENTS.join(", ")} is here`);
  const names = { ...BASES, node: `mooring-test/older:${id}` };
  const before = await docker.buildImage(
    writeTar({ Dockerfile: `FROM ${PARENTS[parent]}\n` }),
    {
      tag: names.node,
      buildArguments: {},
      labels: { [FILES_LABEL]: "of another version" },
      onLine: () => {},
    },
  );
  const basesOn = (node: string, makes = true) =>
    new BaseImages({ docker, names, parents: { node }, makes });
  try {
    assert.equal(await basesOn(PARENTS[parent], false).find("node"), before, "a person's to mend");
    // Where it cannot be made, what is there serves.
    const away = basesOn("127.0.0.1:1/node:24");
    const lines: string[] = [];
    assert.equal(await away.ensure("node", (line) => lines.push(line)), before);
    assert.match(
      lines.join("\n"),
      /goes on serving; on 127.0.0.1:1.* could not be made: .*refused/,
    );
    assert.equal(await away.find("node"), before);

    const bases = basesOn(PARENTS[parent]);
    const made = await bases.ensure("node", () => {});
    assert.notEqual(made, before);
    assert.equal(await bases.find("node"), made);
    assert.equal(await docker.inspectImage(before), null);
    const again = basesOn(PARENTS[parent]);
    assert.equal(await again.find("node"), made);
  } finally {
    await docker.removeImage(names.node);
  }
});

engineTest("BaseImages says why a base cannot be made, and what to do", async ({ docker }) => {
  const names = { ...BASES, python: "mooring-test/none" };
  const says = async (options: { makes: boolean }, reason: RegExp) => {
    const parents = { python: "127.0.0.1:1/python:3" };
    const bases = new BaseImages({ docker, names, parents, ...options });
    await assert.rejects(bases.ensure("python", () => {}), (error) => {
      assert.ok(error instanceof ImageError);
      assert.match(error.reason, reason);
      assert.match(error.nextStep, /deno task base python.*docker load.*tries again/);
      assert.equal(error.retry, true);
      return true;
    });
  };
  await says({ makes: true }, /mooring-test\/none is not on this toolbox; on 127.0.0.1:1.*refused/);
  await says({ makes: false }, /mooring-test\/none is not on this toolbox$/);
});
