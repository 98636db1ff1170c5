/* SPDX-License-Identifier: MIT */
/*
 * What a response means to the front-end's own books, before the kernel hears of
 * it: lookup counts, attributes, names, the number seen, the volume's state.
 * Called once per response, on the thread that received it, in the order of
 * numbers.
 */
#include "private.h"

#define FACES_MAX 3u

/* The other faces of what has this id (FileSystemType.face_bits). */
static unsigned other_faces(const Front *front, uint64_t file_id, uint64_t ret[FACES_MAX]) {
    uint64_t bits = front->type != NULL ? front->type->face_bits : 0, part = 0;
    unsigned count = 0;

    do {
        uint64_t face = (file_id & ~bits) | part;

        if (face != file_id && file_id != 0) {
            ret[count++] = face;
        }
        part = (part - bits) & bits;
    } while (part != 0 && count < FACES_MAX);
    return count;
}

static void attr_drop(Front *front, uint64_t file_id) {
    uint64_t faces[FACES_MAX];
    unsigned count = other_faces(front, file_id, faces);

    nodes_attr_drop(&front->nodes, file_id);
    for (unsigned i = 0; i < count; i++) {
        nodes_attr_drop(&front->nodes, faces[i]);
    }
}

static void name_drop_of(Front *front, uint64_t file_id) {
    uint64_t faces[FACES_MAX];
    unsigned count = other_faces(front, file_id, faces);

    nodes_name_drop_of(&front->nodes, file_id);
    for (unsigned i = 0; i < count; i++) {
        nodes_name_drop_of(&front->nodes, faces[i]);
    }
}

/* The daemon may keep something for whoever holds another face of what has changed: those that
 * nobody holds are let go of. (Those that are held are sorted out when the EVICT is sent.) */
static void evict_faces(Front *front, const FSRequest *request, const FSResponse *response) {
    uint64_t faces[FACES_MAX], file_id = 0;
    unsigned count;

    switch (request->type) {
    case FS_MSG_DELETE_FILE:
    case FS_MSG_RENAME:
        file_id = response->param1;
        break;
    case FS_MSG_SET_XATTR:
    case FS_MSG_REMOVE_XATTR:
        file_id = request->file_id;
        break;
    default:
        return;
    }
    count = other_faces(front, file_id, faces);
    if (response->result == 0 && count > 0 &&
        (nodes_id_bits(&front->nodes) & front->type->face_bits) != 0) {
        (void)chores_evict(front->chores, faces, count);
    }
}

/* Attributes that this operation changed, or may have, and that the response need not carry. */
static void drop_stale(Front *front, const FSRequest *request, const FSResponse *response) {
    switch (request->type) {
    case FS_MSG_RENAME:
    case FS_MSG_LINK:
        attr_drop(front, request->file_id2);
        attr_drop(front, request->file_id);
        break;
    case FS_MSG_WRITE_FILE:
    case FS_MSG_CREATE_FILE:
    case FS_MSG_DELETE_FILE:
    case FS_MSG_SET_ATTR:
    case FS_MSG_FALLOCATE:
    case FS_MSG_SET_XATTR:
    case FS_MSG_REMOVE_XATTR:
        attr_drop(front, request->file_id);
        break;
    default:
        return;
    }
    if ((request->type == FS_MSG_RENAME || request->type == FS_MSG_DELETE_FILE) &&
        response->param1 != 0) {
        attr_drop(front, response->param1);
    }
}

/* Names go by the file that they stood for: on volumes that fold case the one asked for may be
 * another spelling of one that is known. After a failure nobody knows how far it got. */
static void drop_names(Front *front, const FSRequest *request, const FSResponse *response) {
    Nodes *nodes = &front->nodes;
    bool known = response->result == 0;

    switch (request->type) {
    case FS_MSG_CREATE_FILE:
        nodes_list_end_drop(nodes, request->file_id);
        return;
    case FS_MSG_LINK:
        nodes_list_end_drop(nodes, request->file_id2);
        return;
    case FS_MSG_DELETE_FILE:
        known = known && response->param1 != 0;
        break;
    case FS_MSG_RENAME:
        known = known && (response->flags & FS_RESP_ATTR) != 0 &&
                (request->rename_flags & FS_RENAME_EXCHANGE) == 0;
        break;
    default:
        return;
    }
    nodes_list_end_drop(nodes, request->file_id);
    nodes_list_end_drop(nodes, request->file_id2);
    if (!known) {
        nodes_name_drop_in(nodes, request->file_id);
        nodes_name_drop_in(nodes, request->file_id2);
        return;
    }
    name_drop_of(front, response->param1);
    if (request->type == FS_MSG_RENAME) {
        name_drop_of(front, response->attr.file_id);
    }
}

static void note_readonly(Front *front) {
    if (!atomic_exchange(&front->volume.readonly, true)) {
        log_warning("%s: the volume is read-only from here on", front->source_given);
    }
}

void response_accept(Front *front, const Pending *pending, FSResponse *response) {
    const FSRequest *request = &pending->request;
    bool grants = request->type == FS_MSG_LOOKUP || request->type == FS_MSG_CREATE_FILE ||
                  request->type == FS_MSG_LINK;

    if (grants && response->result == 0) {
        int r = nodes_grant(&front->nodes, response->attr.file_id);

        if (r < 0) {
            response->result = r;
        }
    }
    drop_stale(front, request, response);
    drop_names(front, request, response);
    evict_faces(front, request, response);
    if (grants && response->result == 0) {
        nodes_name_store(
            &front->nodes, request->type == FS_MSG_LINK ? request->file_id2 : request->file_id,
            &request->name, (response->flags & FS_RESP_EXACT) != 0, response->attr.file_id);
    }
    if (response->flags & FS_RESP_ATTR) {
        nodes_attr_store(&front->nodes, &response->attr);
    }
    if (response->flags & FS_RESP_PARENT_ATTR) {
        nodes_attr_store(&front->nodes, &response->parent);
    }
    if ((response->flags & FS_RESP_READONLY) != 0 && front->session != NULL &&
        request->type != FS_MSG_REMOUNT) {
        note_readonly(front);
    }
    /* A listing's grants are raised entry by entry, in its finish. */
    if (request->type != FS_MSG_LIST_DIR) {
        nodes_saw(&front->nodes, response->number);
    }
}
