/** Pictures and other files of tools' answers and attachments, for the models that take them. */
import type { OpenedModel } from "../models/chat_models.ts";
import { getAttachedMedia, getCallResult, type Media, type Turn } from "../models/conversations.ts";
import type { Work } from "../models/conversation_work.ts";
import type { Database, User } from "../models/db.ts";

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const SOUNDS = ["audio/wav", "audio/x-wav", "audio/mpeg", "audio/mp3"];
const PDF = "application/pdf";
/** What can be given to some model at all. */
export const GIVEABLE = [...IMAGES, ...SOUNDS, PDF];

/** A larger one is not taken by hosted models (Anthropic: 5 MB of base64). */
export const MEDIA_LIMIT_CHARS = 5_000_000;
/** So much is given at once, the newest of it: with it go a process's memory and the model's tokens. */
const GIVEN_LIMIT_CHARS = 12_000_000;
const GIVEN_LIMIT = 20;

/** Families of models that take pictures, by their names; all of Anthropic's do. */
const SEEING =
  /\b(gpt-4o|gpt-4\.1|gpt-[5-9]|chatgpt|o[134]|claude|gemini|gemma-?[34]|pixtral|llava|llama-?4|minicpm-v|internvl|molmo|grok-[4-9])|vision|[-_.\d]vl\b/i;

/** Whether a model is given what is of a type. */
export function takes({ provider, model, sees }: OpenedModel): (mediaType: string) => boolean {
  const seesImages = sees === "auto"
    ? provider === "anthropic" || SEEING.test(model)
    : sees !== "text";
  return (mediaType) => {
    if (IMAGES.includes(mediaType)) return seesImages;
    if (sees !== "files") return false;
    // Anthropic's API has no sounds.
    return mediaType === PDF || SOUNDS.includes(mediaType) && provider !== "anthropic";
  };
}

/** The pictures, sounds and other files in a tool's answer, in order. */
export function mediaIn(content: unknown[]): Media[] {
  return content.flatMap((block) => {
    const { type, data, mimeType, resource } = (block ?? {}) as Record<string, unknown>;
    if (type === "image" || type === "audio") return mediaOf(mimeType, data);
    if (type !== "resource") return [];
    const { blob, mimeType: own } = (resource ?? {}) as Record<string, unknown>;
    return mediaOf(own, blob);
  });
}

function mediaOf(mimeType: unknown, data: unknown): Media[] {
  if (typeof mimeType !== "string" || typeof data !== "string") return [];
  const bare = data.replace(/\s/g, "");
  const isBase64 = bare.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(bare);
  return isBase64 ? [{ mediaType: mimeType.toLowerCase().split(";")[0].trim(), data: bare }] : [];
}

/** Files by the turn that they were attached to, or the call that they came from. */
export type GivenMedia = Map<string, Media[]>;

/** Reads what a turn's model is given. Each is read once, however many steps there are. */
export class MediaReader {
  readonly #read = new Map<string, Media[]>();
  #isGivenUp = false;

  constructor(
    private readonly db: Database,
    private readonly user: User,
    private readonly work: Pick<Work, "conversationId">,
    private readonly takes: (mediaType: string) => boolean,
  ) {}

  /** From now on nothing is given. */
  giveUp() {
    this.#isGivenUp = true;
  }

  /** The newest of what the turns have, as far as there is room. */
  async of(turns: Turn[]): Promise<GivenMedia> {
    const given: GivenMedia = new Map();
    if (this.#isGivenUp) return given;
    let chars = 0, count = 0;
    for (const [id, read] of this.#places(turns).reverse()) {
      let media = this.#read.get(id);
      if (!media) {
        media = (await read()).filter(({ mediaType, data }) =>
          this.takes(mediaType) && data.length <= MEDIA_LIMIT_CHARS
        );
        this.#read.set(id, media);
      }
      chars += media.reduce((sum, { data }) => sum + data.length, 0);
      count += media.length;
      if (chars > GIVEN_LIMIT_CHARS || count > GIVEN_LIMIT) break;
      if (media.length > 0) given.set(id, media);
    }
    return given;
  }

  #places(turns: Turn[]): [id: string, read: () => Promise<Media[]>][] {
    const { db, user, work: { conversationId } } = this;
    const places: [id: string, read: () => Promise<Media[]>][] = [];
    for (const { id, attachments, steps } of turns) {
      const attached = attachments.flatMap(({ media }) => media ?? []);
      if (attached.some(({ mediaType }) => this.takes(mediaType))) {
        places.push([id, () => getAttachedMedia(db, user, conversationId, id)]);
      }
      for (const { id, mediaTypes, result } of steps.flatMap(({ calls }) => calls)) {
        if (!mediaTypes.some((mediaType) => this.takes(mediaType))) continue;
        places.push([id, async () => {
          const text = result ?? await getCallResult(db, user, conversationId, id);
          return mediaIn((JSON.parse(text) as { content?: unknown[] }).content ?? []);
        }]);
      }
    }
    return places;
  }
}
