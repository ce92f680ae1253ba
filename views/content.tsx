import { definitionText } from "./difference.tsx";
import { bytes, count } from "./parts.tsx";
import { visibleText } from "./visible_text.ts";

/** Types that browsers show without running anything of them: SVG is none of these. */
const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"];
const SOUNDS = ["audio/wav", "audio/x-wav", "audio/mpeg", "audio/mp3", "audio/ogg", "audio/webm"]
  .concat("audio/flac", "audio/aac", "audio/mp4");

const BLOCKS_LIMIT = 100;
const TEXT_LIMIT = 200_000;
const TREE_LIMIT = 2000;

/** What a tool answered: every kind of content, none of it trusted. */
export function Contents({ blocks }: { blocks: unknown[] }) {
  return (
    <>
      {blocks.slice(0, BLOCKS_LIMIT).map((block) => <Block block={block} />)}
      {blocks.length > BLOCKS_LIMIT && (
        <p class="help">
          And {count(blocks.length - BLOCKS_LIMIT, "more block")}: see all of the result.
        </p>
      )}
    </>
  );
}

function Block({ block }: { block: unknown }) {
  if (!isRecord(block)) return <Raw value={block} />;
  const { type, mimeType } = block;
  const media = text(mimeType);
  if (type === "text" && typeof block.text === "string") return <Text text={block.text} />;
  if (type === "image" || type === "audio") {
    const data = base64(block.data);
    if (data === null) return <Raw value={block} />;
    return (
      <figure>
        <Media media={media} data={data} />
        <figcaption>
          <small>
            {type === "image" ? "Image" : "Sound"}, {visibleText(media || "of no type")},{" "}
            {bytes(sizeOf(data))}
            {!isShown(media) &&
              ": a type that is not shown here, since a browser may run what it holds"}{" "}
            <Download data={data} name={`${type}${ending(media)}`} />
          </small>
        </figcaption>
      </figure>
    );
  }
  if (type === "resource_link" && typeof block.uri === "string") {
    return <ResourceLink link={block} />;
  }
  if (type === "resource" && isRecord(block.resource)) {
    return <Embedded resource={block.resource} />;
  }
  return <Raw value={block} />;
}

function Text({ text }: { text: string }) {
  return (
    <>
      <pre tabindex={0}>{visibleText(text.slice(0, TEXT_LIMIT))}</pre>
      {text.length > TEXT_LIMIT && (
        <p class="help">
          Only the beginning is shown. <Download text={text} name="answer.txt" />
        </p>
      )}
    </>
  );
}

/** @param data base64 that was checked */
function Media({ media, data }: { media: string; data: string }) {
  if (IMAGES.includes(media)) {
    return <img class="answer" alt="From the tool" src={`data:${media};base64,${data}`} />;
  }
  if (SOUNDS.includes(media)) {
    return <audio controls src={`data:${media};base64,${data}`}></audio>;
  }
  return null;
}

function isShown(media: string): boolean {
  return IMAGES.includes(media) || SOUNDS.includes(media);
}

function ResourceLink({ link }: { link: Record<string, unknown> }) {
  const uri = String(link.uri);
  const host = hostOf(uri);
  const title = text(link.title) || text(link.name);
  return (
    <div class="resource">
      <p>
        Link{title && (
          <>
            : <strong>{visibleText(title.slice(0, 500))}</strong>
          </>
        )} <code>{visibleText(uri.slice(0, 2000))}</code>
      </p>
      {text(link.description) && <p>{visibleText(text(link.description).slice(0, 2000))}</p>}
      <p>
        <small>
          {text(link.mimeType) && <>{visibleText(text(link.mimeType))}</>}
          {typeof link.size === "number" && <>{bytes(link.size)}</>}
          {host && (
            <a href={uri} target="_blank" rel="noopener noreferrer nofollow">
              Open at {visibleText(host)}
            </a>
          )}
        </small>
      </p>
    </div>
  );
}

function Embedded({ resource }: { resource: Record<string, unknown> }) {
  const uri = text(resource.uri), media = text(resource.mimeType);
  const name = nameOf(uri);
  const data = base64(resource.blob);
  return (
    <div class="resource">
      <p>
        Resource <code>{visibleText(uri.slice(0, 2000))}</code>{" "}
        {media && <small>{visibleText(media)}</small>} {typeof resource.text === "string"
          ? <Download text={resource.text} name={name} />
          : data !== null && (
            <>
              <small>{bytes(sizeOf(data))}</small> <Download data={data} name={name} />
            </>
          )}
      </p>
      {typeof resource.text === "string"
        ? <pre tabindex={0}>{visibleText(resource.text.slice(0, TEXT_LIMIT))}</pre>
        : data !== null
        ? <Media media={media} data={data} />
        : <Raw value={resource} />}
    </div>
  );
}

/** As bytes of no type, so that no browser opens them in place of saving them. */
function Download({ data, text, name }: { data?: string; text?: string; name: string }) {
  const base64 = data ?? toBase64(text!);
  return (
    <a href={`data:application/octet-stream;base64,${base64}`} download={name}>
      Download
    </a>
  );
}

function Raw({ value }: { value: unknown }) {
  return <pre tabindex={0}>{definitionText(value ?? null)}</pre>;
}

/** JSON as a tree of what can be opened. */
export function Tree({ value }: { value: unknown }) {
  const left = { nodes: TREE_LIMIT };
  return (
    <div class="tree">
      {branch(value, left, 0)}
      {left.nodes <= 0 && <p class="help">There is more: see all of the result.</p>}
    </div>
  );
}

function branch(value: unknown, left: { nodes: number }, depth: number) {
  if (!isRecord(value) && !Array.isArray(value)) return <Leaf value={value} />;
  if (depth > 20) return <Raw value={value} />;
  const entries = Object.entries(value);
  if (entries.length === 0) return <code>{Array.isArray(value) ? "[]" : "{}"}</code>;
  return (
    <ul>
      {entries.map(([name, item]) => {
        if (left.nodes-- <= 0) return null;
        const isBranch = (isRecord(item) || Array.isArray(item)) && Object.keys(item).length > 0;
        const key = <span class="key">{visibleText(name.slice(0, 500))}</span>;
        if (!isBranch) return <li>{key}: {branch(item, left, depth + 1)}</li>;
        const size = Object.keys(item).length;
        return (
          <li>
            <details open={depth < 2}>
              <summary>
                {key}{" "}
                <small>{Array.isArray(item) ? count(size, "item") : count(size, "member")}</small>
              </summary>
              {branch(item, left, depth + 1)}
            </details>
          </li>
        );
      })}
    </ul>
  );
}

function Leaf({ value }: { value: unknown }) {
  if (typeof value === "string") {
    return <span class="pre">{visibleText(value.slice(0, 20_000))}</span>;
  }
  return <code>{JSON.stringify(value ?? null)}</code>;
}

/** The host of an address that a browser may be sent to; null for all others. */
export function hostOf(uri: string): string | null {
  if (!URL.canParse(uri)) return null;
  const { protocol, host, username, password } = new URL(uri);
  const isPlain = (protocol === "https:" || protocol === "http:") && !username && !password;
  return isPlain ? host : null;
}

/** Not a number of many digits, which is a frozen object of the engine's (models/exact_json.ts). */
function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    !Object.isFrozen(value);
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function base64(value: unknown): string | null {
  return typeof value === "string" && /^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(value)
    ? value.replace(/\s/g, "")
    : null;
}

function sizeOf(base64: string): number {
  return Math.floor(base64.replace(/=+$/, "").length * 3 / 4);
}

function toBase64(text: string): string {
  let binary = "";
  const all = new TextEncoder().encode(text);
  for (let at = 0; at < all.length; at += 0x8000) {
    binary += String.fromCharCode(...all.subarray(at, at + 0x8000));
  }
  return btoa(binary);
}

/** The last step of an address, as far as it can be a file's name anywhere. */
function nameOf(uri: string): string {
  const last = uri.split(/[?#]/)[0].split("/").at(-1) ?? "";
  return last.replace(/[^A-Za-z0-9._-]/g, "_").replace(/^\.+/, "").slice(0, 100) || "resource";
}

function ending(media: string): string {
  const [, subtype] = /^[a-z]+\/(?:x-)?([a-z0-9]{2,5})$/.exec(media) ?? [];
  return subtype ? `.${subtype}` : "";
}
