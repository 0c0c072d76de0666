import { useCallback, useId, useRef, useState } from "react";
import { Input, TextField } from "react-aria-components";

import { changesOf } from "../../api/live";
import { api, type Job, told, upload } from "../../api/client";
import { messageOf } from "../../api/errors";
import { hasEnded } from "../../api/jobs";
import { fill } from "../../i18n";
import { useOwnText } from "../../i18n/own";
import { Button, IconButton } from "../../ui/button";
import { useDropped } from "../../ui/dropped";
import { Icon } from "../../ui/icons";
import { Picture } from "../../ui/picture";
import { toast } from "../../ui/toasts";
import { changeTeachDraft, currentTeachDraft, type TaughtImage, useTeachDraft, withImages } from "./draft";
import { type TeachText, texts } from "./text";

const ACCEPTED = "image/png,image/jpeg,image/webp,.txt";
const MOST = 64;

/** The images that are learned from, each with its caption. */
export function Images({ usual }: { usual: string }) {
  const text = useOwnText(texts);
  const { images } = useTeachDraft();
  const chooser = useRef<HTMLInputElement>(null);
  const label = useId();
  const [sending, take] = useTaking(text);
  const over = useDropped(take);
  return (
    <section className="teach-part" aria-labelledby={label}>
      <div className="teach-part-head">
        <h2 id={label}>{text.images}</h2>
        {images.length > 0 && <span className="badge">{images.length}</span>}
      </div>
      <input
        ref={chooser}
        type="file"
        multiple
        hidden
        accept={ACCEPTED}
        aria-label={text.choose}
        onChange={(event) => {
          take([...(event.target.files ?? [])]);
          event.target.value = "";
        }}
      />
      {images.length > 0 && <Captions images={images} usual={usual} />}
      <div className={over ? "teach-drop teach-drop-over" : images.length > 0 ? "teach-drop teach-drop-small" : "teach-drop"}>
        {images.length === 0 && <Icon name="image" />}
        {images.length === 0 && <p>{text.drop}</p>}
        <div className="row">
          <Button icon="plus" onPress={() => chooser.current?.click()}>
            {images.length === 0 ? text.choose : text.dropMore}
          </Button>
          {images.length > 0 && <CaptionAll images={images} />}
          {images.length > 0 && (
            <Button look="quiet" onPress={() => changeTeachDraft({ images: [] })}>
              {text.removeAll}
            </Button>
          )}
        </div>
        <p className="quiet" aria-live="polite">
          {sending ?? (images.length === 0 ? `${text.imagesHint} ${text.textsToo}` : text.captionModelHint)}
        </p>
      </div>
    </section>
  );
}

function Captions({ images, usual }: { images: readonly TaughtImage[]; usual: string }) {
  const text = useOwnText(texts);
  const set = (id: string, caption: string) =>
    changeTeachDraft({ images: currentTeachDraft().images.map((image) => (image.id === id ? { ...image, caption } : image)) });
  const remove = (id: string) => changeTeachDraft({ images: currentTeachDraft().images.filter((image) => image.id !== id) });
  return (
    <table className="captions">
      <thead className="visually-hidden">
        <tr>
          <th scope="col">{text.image}</th>
          <th scope="col">{text.caption}</th>
          <td />
        </tr>
      </thead>
      <tbody>
        {images.map((image) => (
          <tr key={image.id}>
            <td>
              <Picture className="caption-image" src={addressOf(image.id)} alt={image.name} />
            </td>
            <td>
              <TextField className="text" aria-label={fill(text.captionOf, { name: image.name })} value={image.caption} onChange={(caption) => set(image.id, caption)}>
                <Input placeholder={usual} />
              </TextField>
            </td>
            <td>
              <IconButton icon="close" label={fill(text.removeImage, { name: image.name })} onPress={() => remove(image.id)} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Where an upload can be looked at. */
function addressOf(id: string): string {
  return `/v1/uploads/${id.replace("upload:", "")}`;
}

/** Sends files one by one; texts among them are the captions of the images of their name. */
function useTaking(text: TeachText): [string | null, (files: File[]) => void] {
  const [sending, setSending] = useState<string | null>(null);
  const take = useCallback(
    (files: File[]) => {
      void (async () => {
        const captions = await captionsIn(files);
        const found = files.filter((file) => file.type.startsWith("image/"));
        const room = Math.max(0, MOST - currentTeachDraft().images.length);
        if (found.length > room) toast(fill(text.tooMany, { most: MOST }), { bad: true });
        for (const [at, file] of found.slice(0, room).entries()) {
          setSending(fill(text.sending, { done: at + 1, total: Math.min(found.length, room) }));
          try {
            const image = { id: await upload(file), name: file.name, caption: captions.get(stem(file.name)) ?? "" };
            changeTeachDraft({ images: withImages(currentTeachDraft().images, [image]) });
          } catch (error) {
            toast(`${file.name}: ${messageOf(error)}`, { bad: true });
          }
        }
        setSending(null);
      })();
    },
    [text],
  );
  return [sending, take];
}

function stem(name: string): string {
  return name.replace(/\.[^.]+$/, "");
}

async function captionsIn(files: readonly File[]): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const file of files.filter((one) => one.name.endsWith(".txt"))) {
    found.set(stem(file.name), ((await file.text()).split("\n")[0] ?? "").trim());
  }
  return found;
}

/** Lets the model's own CLIP write a caption for every image. */
function CaptionAll({ images }: { images: readonly TaughtImage[] }) {
  const text = useOwnText(texts);
  const [busy, setBusy] = useState(false);
  const run = async () => {
    setBusy(true);
    try {
      const ids = images.map((image) => image.id);
      const job = await ended(await told(api.POST("/v1/jobs/caption", { body: { images: ids } as never })));
      if (job.error !== null) throw new Error(job.error.message);
      const captions = job.result?.["captions"] as readonly string[];
      const by = new Map(ids.map((id, at) => [id, captions[at] ?? ""]));
      changeTeachDraft({
        images: currentTeachDraft().images.map((image) => ({ ...image, caption: by.get(image.id) ?? image.caption })),
      });
      toast(text.captionsDone);
    } catch (error) {
      toast(messageOf(error), { bad: true });
    } finally {
      setBusy(false);
    }
  };
  return (
    <Button icon="eye" isPending={busy} onPress={() => void run()}>
      {busy ? text.captioning : text.captionAll}
    </Button>
  );
}

/** A job once it has ended. */
export async function ended(job: Job): Promise<Job> {
  if (!hasEnded(job)) {
    for await (const _ of changesOf(job.id)) {
      // Each is waited for; they end with the job.
    }
  }
  return told(api.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.id } } }));
}
