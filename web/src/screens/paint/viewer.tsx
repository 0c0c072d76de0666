import { useLocation } from "wouter";

import { type Fields, type Job, type JobImage, send, upload } from "../../api/client";
import { messageOf } from "../../api/errors";
import { setDraft, setField } from "../../form/store";
import { useText } from "../../i18n";
import { Button } from "../../ui/button";
import { Dialog } from "../../ui/dialog";
import { Picture, useAddress } from "../../ui/picture";
import { toast } from "../../ui/toasts";
import { promptOf } from "./job";

const VARY = 0.15;
/** How far a variation goes from the noise of its image: seen, and still the same thing. */

/** An image in full, what made it, and what one can go on to do with it. */
export function Viewer({ job, image, onClose }: { job: Job; image: JobImage; onClose: () => void }) {
  const text = useText();
  const [, go] = useLocation();
  const address = useAddress(image.url);
  const then = (change: () => void) => () => {
    change();
    onClose();
  };
  const asked = job.asked as Fields;
  return (
    <Dialog title={promptOf(job) || text.paint.noPrompt} open wide onClose={onClose}>
      <div className="viewer">
        <Picture className="viewer-image" src={image.url} alt={promptOf(job) || text.paint.noPrompt} />
        <div className="viewer-side">
          <div className="viewer-actions">
            <Button icon="undo" onPress={then(() => setDraft({ ...asked, seed: image.seed }))}>
              {text.paint.again}
            </Button>
            <Button icon="dice" onPress={then(() => setField("seed", image.seed))}>
              {text.paint.seedOf}
            </Button>
            <Button icon="vary" onPress={then(() => setDraft({ ...asked, seed: image.seed, variation_strength: VARY }))}>
              {text.paint.variation}
            </Button>
            <Button icon="image" onPress={then(() => void startFrom(image))}>
              {text.paint.asSource}
            </Button>
            <Button icon="canvas" onPress={() => go(`/canvas?image=${image.id}`)}>
              {text.paint.edit}
            </Button>
            {address !== null && (
              <a className="button button-plain" href={address} download={`${image.id}.png`}>
                {text.paint.download}
              </a>
            )}
          </div>
          <pre className="infotext">{image.infotext}</pre>
        </div>
      </div>
    </Dialog>
  );
}

async function startFrom(image: JobImage): Promise<void> {
  try {
    setField("image", await upload(await (await send(image.url)).blob()));
  } catch (error) {
    toast(messageOf(error), { bad: true });
  }
}
