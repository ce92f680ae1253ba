import assert from "node:assert/strict";
import type { ContainerDetails } from "../../dtma/docker.ts";
import type { containerConfig } from "../../dtma/policy.ts";

/** That the engine holds a container to all that was asked for, field by field, and gives it no more. */
export function assertIsHeld(
  { Config, HostConfig, Image }: ContainerDetails,
  config: Omit<ReturnType<typeof containerConfig>, "Labels"> & { Labels: Record<string, string> },
): void {
  assert.equal(Image, config.Image);
  for (const [field, wanted] of Object.entries(config)) {
    if (field === "HostConfig") continue;
    // A container has its image's labels too.
    if (field === "Labels") {
      assert.deepEqual({ ...Config.Labels, ...(wanted as object) }, Config.Labels);
      continue;
    }
    if (field === "Env") {
      for (const each of wanted as string[]) assert.ok((Config.Env as string[]).includes(each));
    } else assert.deepEqual(Config[field], wanted, field);
  }
  for (const [field, wanted] of Object.entries(config.HostConfig)) {
    const held = HostConfig[field];
    if (field === "LogConfig") assert.equal((held as { Type: string }).Type, "none");
    else if (field === "RestartPolicy") assert.equal((held as { Name: string }).Name, "no");
    else if (Array.isArray(wanted) && wanted.length === 0) {
      assert.ok(!(held as unknown[] | undefined)?.length, field);
    } else assert.deepEqual(held, wanted, field);
  }
  for (const field of ["Binds", "Devices", "CapAdd", "GroupAdd", "VolumesFrom"]) {
    assert.ok(!(HostConfig[field] as unknown[] | null)?.length, field);
  }
  for (const field of ["PidMode", "UTSMode", "UsernsMode"]) assert.equal(HostConfig[field], "");
  assert.deepEqual(HostConfig.PortBindings ?? {}, {});
}
