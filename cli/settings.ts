/** Where Mooring is and as whom it is asked: the environment's word, else what `login` kept. */
import { join } from "node:path";

export interface Settings {
  url: string;
  token: string;
}

function path(): string {
  const base = Deno.env.get("XDG_CONFIG_HOME") || join(Deno.env.get("HOME") ?? ".", ".config");
  return join(base, "mooring", "login.json");
}

/** Null where neither says both. */
export async function readSettings(): Promise<Settings | null> {
  const kept = await readKept();
  const url = Deno.env.get("MOORING_URL") || kept?.url;
  // A token that was kept is for the address that it was kept with.
  const isKepts = kept && url?.replace(/\/+$/, "") === kept.url.replace(/\/+$/, "");
  const token = Deno.env.get("MOORING_TOKEN")?.trim() || (isKepts ? kept.token : undefined);
  return url && token ? { url, token } : null;
}

async function readKept(): Promise<Settings | null> {
  try {
    const { url, token } = JSON.parse(await Deno.readTextFile(path()));
    return typeof url === "string" && typeof token === "string" ? { url, token } : null;
  } catch {
    return null;
  }
}

/** Keeps a login for later, for its owner's eyes alone. @returns where */
export async function keepSettings(settings: Settings): Promise<string> {
  const file = path();
  await Deno.mkdir(join(file, ".."), { recursive: true, mode: 0o700 });
  // Anew, since a file that is there keeps its mode; then in the place of the old one at once.
  const written = `${file}.${crypto.randomUUID()}`;
  await Deno.writeTextFile(written, JSON.stringify(settings) + "\n", {
    mode: 0o600,
    createNew: true,
  });
  await Deno.rename(written, file);
  return file;
}

export async function forgetSettings(): Promise<void> {
  await Deno.remove(path()).catch(() => {});
}

/** Why a token should not go to a URL; null when it may. */
export function whyUnsafe(url: string): string | null {
  const parsed = URL.parse(url);
  if (!parsed || !/^https?:$/.test(parsed.protocol)) {
    return "MOORING_URL has to be a whole URL, such as https://mooring.example.com";
  }
  return parsed.protocol === "http:" && !isThisMachine(parsed)
    ? `${parsed.origin} is plain http on another machine: it would show the token to the network`
    : null;
}

/** Whether a URL is of the machine that asks it. */
export function isThisMachine({ hostname }: URL): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
