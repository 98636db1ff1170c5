/* SPDX-License-Identifier: MIT */
/*
 * A volume's side journal at its mount (man berth-recovery.7, section 14). The volume is asked who
 * it is before anything of a batch is written to it: type and serial number lie in one sector
 * each, which a power cut leaves whole.
 */
#include "internal.h"
#include <stdio.h>

MAY_YIELD int volume_journal_begin(Volume *volume, const FsMountOptions *options, bool recover,
                                   char text[256]) {
    BlockDevice *device = volume->guard != NULL ? volume->guard : volume->device;
    SideJournalVolume identity = {.size = device->size};
    FsProbe probe = {.uuid = ""};

    /* Who takes over reads nothing of it before the writes of the dead have ended. */
    if (volume->journal == NULL || recover) {
        return 0;
    }
    if (volume->type->probe != NULL && volume->type->probe(device, &probe) < 0) {
        probe = (FsProbe){.uuid = ""};
    }
    (void)snprintf(identity.type, sizeof(identity.type), "%s", volume->type->name);
    (void)snprintf(identity.serial, sizeof(identity.serial), "%s",
                   probe.uuid[0] != '\0' ? probe.uuid : probe.serial);
    return sidejournal_begin(volume->journal, &identity,
                             sidejournal_size(options->log_bytes, device->size), device,
                             options->readonly, text);
}

void volume_journal_json(const Volume *volume, Json *json) {
    const SideJournalStats *stats = sidejournal_stats(volume->journal);

    json_begin_object(json, "journal");
    json_u64(json, "size", sidejournal_capacity(volume->journal));
    json_u64(json, "batches", stats->batches);
    json_u64(json, "blocks", stats->blocks);
    json_u64(json, "bytes", stats->bytes);
    json_u64(json, "replayed", stats->replayed);
    json_end_object(json);
}
