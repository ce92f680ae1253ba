/**
 * How an image is made from a package: the Dockerfile of each kind. Names reach no shell: steps are
 * in the exec form, and what a command is made of is a label.
 */
import launcher from "./launch.sh" with { type: "text" };
import api from "./api_adapter/api.mts" with { type: "text" };
import apiMain from "./api_adapter/main.mts" with { type: "text" };
import apiPlan from "./api_adapter/plan.mts" with { type: "text" };
import apiRequest from "./api_adapter/request.mts" with { type: "text" };
import apiResult from "./api_adapter/result.mts" with { type: "text" };
import apiValues from "./api_adapter/values.mts" with { type: "text" };
import eventStream from "./remote_adapter/event_stream.mts" with { type: "text" };
import credentials from "./remote_adapter/credentials.mts" with { type: "text" };
import adapterMain from "./remote_adapter/main.mts" with { type: "text" };
import paramHeaders from "./remote_adapter/param_headers.mts" with { type: "text" };
import remote from "./remote_adapter/remote.mts" with { type: "text" };
import { ImageError } from "./image_error.ts";
import { Label } from "./policy.ts";
import type { NpmPackage, NugetPackage, PypiPackage } from "./protocol.ts";
import { writeTar } from "./tar.ts";

/** The base images that `deno task base` makes, by what stands on them. */
export const BASES = {
  node: "mooring/node:24",
  python: "mooring/python:3",
  dotnet: "mooring/dotnet:10",
  /** Installs .NET tools; no server runs on it. */
  dotnetSdk: "mooring/dotnet-sdk:10",
};
export type Bases = typeof BASES;

/** Where packages come from when it is not the language's public registry. */
export interface Indexes {
  /** A registry that speaks npm's protocol. */
  npm?: string;
  /** A "simple" index (PEP 503). */
  pypi?: string;
  /** A NuGet v3 source. */
  nuget?: string;
}

/** A package that an installer in a base image installs into `/app`. */
export type InstalledPackage = NpmPackage | PypiPackage | NugetPackage;

export interface Recipe {
  base: keyof Bases;
  /** Where it is installed, if not on the base. */
  installer: keyof Bases;
  command: string[];
  /** The exec form of the step that installs it. */
  install: string[];
  /** Variables of the step that installs it; what runs has none of them. */
  environment: Record<string, string>;
  /** The lock file's name in `/app`, taken from the first build and given to later ones. */
  lock: string | null;
  /** The file in the image that says what was installed, for the SBOM. */
  installed: string | null;
}

/**
 * A dependency of a git repository is prepared in its own directory, whose .npmrc names the program that is
 * started as git: code of its own, although no scripts are run. npm knows `allow-git` since 11.10; to one before,
 * what stands in the environment is above what .npmrc says.
 */
const NPM_WITHOUT_GIT = { npm_config_allow_git: "none", npm_config_git: "/bin/false" };

/** The step of an installer, by the package's registry. */
export function recipeOf(wanted: InstalledPackage, indexes: Indexes): Recipe {
  const { name, version } = wanted;
  switch (wanted.registry) {
    case "npm":
      return {
        base: "node",
        installer: "node",
        command: ["node", "/app/server"],
        install: ["node", "/usr/local/lib/mooring/install.mjs", name, version]
          .concat(wanted.installScripts ? ["--scripts"] : []),
        environment: {
          ...(!wanted.installScripts && NPM_WITHOUT_GIT),
          ...(indexes.npm && {
            npm_config_registry: indexes.npm,
            // The lock file then names digests and no address: it serves with any other registry too.
            npm_config_omit_lockfile_registry_resolved: "true",
          }),
        },
        lock: "package-lock.json",
        // What npm put there, and not what it would put on other platforms.
        installed: "node_modules/.package-lock.json",
      };
    case "pypi":
      return {
        base: "python",
        installer: "python",
        command: ["python3", "/app/server"],
        install: ["python3", "/usr/local/lib/mooring/install.py", name, version]
          .concat(wanted.command ? [`--command=${wanted.command}`] : [])
          .concat(wanted.installScripts ? ["--scripts"] : [])
          .concat(indexes.pypi ? [`--index=${indexes.pypi}`] : []),
        environment: {},
        lock: "requirements.lock",
        installed: "requirements.lock",
      };
    case "nuget":
      return {
        base: "dotnet",
        installer: "dotnetSdk",
        command: ["/app/server"],
        install: ["/bin/sh", "/usr/local/lib/mooring/install.sh", name, version]
          .concat(indexes.nuget ? [indexes.nuget] : []),
        environment: {},
        lock: null,
        installed: null,
      };
  }
}

/** Labels that tell a later {@link import("./image.ts").Images} what it built. */
export const BuildLabel = {
  /** Every image of one build carries it, so that what a failed or stopped build left can be found. */
  build: "dev.mooring.build",
  /** The id of the base image that an image stands on: another base means building again. */
  base: "dev.mooring.base",
  /** What starts the server, as JSON. */
  command: "dev.mooring.command",
  /** Whether `/mooring/launch` is there: `1` or `0`. */
  launcher: "dev.mooring.launcher",
} as const;

export interface InstallContext {
  /** Of the stage that installs, and of what runs. */
  installLabels: Record<string, string>;
  labels: Record<string, string>;
  /** CA certificates (PEM) to trust beside the usual ones; in the first stage alone. */
  certificates: Uint8Array | null;
  lock: Uint8Array | null;
}

/**
 * The build context of a package that is installed into `/app`. Two stages: certificates, the package
 * manager's cache and its logs stay in the first.
 */
export function installContext(recipe: Recipe, context: InstallContext): Uint8Array<ArrayBuffer> {
  const { certificates, lock } = context;
  const lockName = recipe.lock ?? "";
  const dockerfile = [
    "ARG BASE",
    "ARG INSTALLER",
    "FROM ${INSTALLER} AS install",
    labelStep(context.installLabels),
    "USER 0",
    ...(certificates
      ? [
        "COPY extra-ca.pem /tmp/extra-ca.pem",
        "ENV NODE_EXTRA_CA_CERTS=/tmp/extra-ca.pem",
      ]
      : []),
    ...Object.entries(recipe.environment).map(([name, value]) => `ENV ${name}=${quote(value)}`),
    ...(lock ? [`COPY ${lockName} /app/${lockName}`] : []),
    `RUN ${JSON.stringify(recipe.install)}`,
    "FROM ${BASE}",
    labelStep({
      ...context.labels,
      [BuildLabel.command]: JSON.stringify(recipe.command),
      [BuildLabel.launcher]: "1",
    }),
    "COPY --from=install /app /app",
    "",
  ].join("\n");
  return writeTar({
    Dockerfile: dockerfile,
    ...(certificates && { "extra-ca.pem": certificates }),
    ...(lock && { [lockName]: lock }),
  });
}

/** The build context that adds Mooring's labels, and its launcher where it can run, to an image. */
export function derivedContext(
  { from, command, hasLauncher, labels }: {
    from: string;
    command: string[];
    hasLauncher: boolean;
    labels: Record<string, string>;
  },
): Uint8Array<ArrayBuffer> {
  const dockerfile = [
    `FROM ${from}`,
    // As the policy has it: COPY makes root's files, and nothing is run here.
    labelStep({
      ...labels,
      [BuildLabel.command]: JSON.stringify(command),
      [BuildLabel.launcher]: hasLauncher ? "1" : "0",
    }),
    // Its probes would be processes of the server's beside the ping that Mooring sends.
    "HEALTHCHECK NONE",
    ...(hasLauncher ? ["COPY launch /mooring/launch"] : []),
    "",
  ].join("\n");
  return writeTar({ Dockerfile: dockerfile, launch: launcher }, ["launch"]);
}

/** The adapter before servers over HTTP, remote ones and those in a container beside it. */
export const ADAPTER_FILES = {
  "event_stream.mts": eventStream,
  "main.mts": adapterMain,
  "param_headers.mts": paramHeaders,
  "credentials.mts": credentials,
  "remote.mts": remote,
};

/** By which another adapter is known. */
export const ADAPTER_CODE = Object.values(ADAPTER_FILES).join("\n");

/** The build context of the adapter before one server. */
export function adapterContext(
  url: string,
  labels: Record<string, string>,
): Uint8Array<ArrayBuffer> {
  const dockerfile = [
    "ARG BASE",
    "FROM ${BASE}",
    labelStep({
      ...labels,
      [BuildLabel.command]: JSON.stringify(["node", "/app/main.mts", url]),
      [BuildLabel.launcher]: "1",
    }),
    "COPY *.mts /app/",
    "",
  ].join("\n");
  return writeTar({ Dockerfile: dockerfile, ...ADAPTER_FILES });
}

/** The adapter of REST APIs. */
const API_ADAPTER_FILES = {
  "api.mts": api,
  "main.mts": apiMain,
  "plan.mts": apiPlan,
  "request.mts": apiRequest,
  "result.mts": apiResult,
  "values.mts": apiValues,
};

/** By which another adapter is known. */
export const API_ADAPTER_CODE = Object.values(API_ADAPTER_FILES).join("\n");

/** The build context of the adapter of one REST API. */
export function apiContext(plan: string, labels: Record<string, string>): Uint8Array<ArrayBuffer> {
  const dockerfile = [
    "ARG BASE",
    "FROM ${BASE}",
    labelStep({
      ...labels,
      [BuildLabel.command]: JSON.stringify(["node", "/app/main.mts", "/app/plan.json"]),
      [BuildLabel.launcher]: "1",
    }),
    "COPY *.mts plan.json /app/",
    "",
  ].join("\n");
  return writeTar({ Dockerfile: dockerfile, "plan.json": plan, ...API_ADAPTER_FILES });
}

function labelStep(labels: Record<string, string>): string {
  return "LABEL " + Object.entries(labels)
    .map(([name, value]) => `${name}=${quote(value)}`).join(" ");
}

/** A Dockerfile's double-quoted word: a backslash escapes, and a dollar would name a variable. */
function quote(value: string): string {
  if (/[\r\n]/.test(value)) {
    throw new ImageError(
      "The command that starts the server has a line break in it",
      "Give a command without one, and deploy again.",
      false,
    );
  }
  return `"${value.replaceAll(/[\\"$]/g, "\\$&")}"`;
}

/** The labels by which a toolbox finds its image for a package again. */
export function ownImageLabels(toolboxId: string, key: string): Record<string, string> {
  return { [Label.toolbox]: toolboxId, [Label.image]: key };
}
