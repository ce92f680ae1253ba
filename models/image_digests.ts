/** What a tag of an image stands for now, by the registry's API (OCI Distribution 1.1, end-2 and Docker's token dance). */
import type { TaggedImage } from "./catalog_entries.ts";
import { Invalid } from "./errors.ts";
import { type Outside, OutsideError } from "./outside.ts";

/** The digest that an image's tag stands for. @throws {Invalid} for a person, when it cannot be told */
export type DigestOf = (image: TaggedImage) => Promise<string>;

const MANIFESTS = [
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
].join(", ");

/** Asks registries as somebody without an account: private images are not found. */
export function digestsBy(outside: Outside): DigestOf {
  return async ({ image, tag }) => {
    const title = `${image}:${tag}`;
    try {
      const [host, ...path] = image.split("/");
      const registry = host === "docker.io" ? "registry-1.docker.io" : host;
      const url = new URL(`https://${registry}/v2/${path.join("/")}/manifests/${tag}`);
      let response = await ask(outside, url);
      if (response.status === 401) {
        const token = await tokenFor(outside, response.headers.get("www-authenticate") ?? "");
        response = await ask(outside, url, token);
      }
      const digest = response.headers.get("docker-content-digest") ?? "";
      if (response.ok && /^sha256:[0-9a-f]{64}$/.test(digest)) return digest;
      throw new Invalid(
        response.status === 404
          ? `There is no image ${title} any more, or not yet`
          : response.status === 401 || response.status === 403
          ? `The image ${title} is not for everybody: its registry wants an account`
          : response.status === 429
          ? `The registry of ${title} is asked too often just now: try again in some minutes`
          : `The registry of ${title} does not say what the tag stands for (${response.status})`,
      );
    } catch (error) {
      if (!(error instanceof OutsideError)) throw error;
      throw new Invalid(`The image ${title} could not be looked up: ${error.message}`);
    }
  };
}

function ask(outside: Outside, url: URL, token?: string): Promise<Response> {
  return outside(url, {
    method: "HEAD",
    headers: { accept: MANIFESTS, ...token ? { authorization: `Bearer ${token}` } : {} },
  });
}

/** A token that anybody gets, from where the registry says. */
async function tokenFor(outside: Outside, challenge: string): Promise<string | undefined> {
  const parameter = (name: string) => new RegExp(`${name}="([^"]{1,500})"`).exec(challenge)?.[1];
  const realm = parameter("realm");
  if (!/^Bearer\b/i.test(challenge) || !realm || !URL.canParse(realm)) return undefined;
  const url = new URL(realm);
  for (const name of ["service", "scope"]) {
    const value = parameter(name);
    if (value) url.searchParams.set(name, value);
  }
  const response = await outside(url);
  if (!response.ok) return undefined;
  const { token, access_token: accessToken } = await response.json().catch(() => ({})) as Record<
    string,
    unknown
  >;
  const found = token ?? accessToken;
  return typeof found === "string" && /^[\x21-\x7e]{1,8192}$/.test(found) ? found : undefined;
}
