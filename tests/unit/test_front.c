/* SPDX-License-Identifier: MIT */
/*
 * The front-end without FUSE: options, lookup counts and the EVICT rule, what a
 * response may say, and the pending table with its replier against a fake daemon
 * on the other end of a channel, honest and not.
 */
#include "../../src/front/private.h"

#include <check.h>
#include <stdio.h>

/* ---- options ---- */

static const FrontOptions *parse(FrontOptions *options, const char *list) {
    char text[256];

    front_options_init(options);
    ck_assert_msg(front_options_add(options, list, text) == 0, "%s: %s", list, text);
    return options;
}

START_TEST(options_are_sorted) {
    _cleanup_(front_options_done) FrontOptions options;
    _cleanup_(text_done) Text volume = {0};

    parse(&options, "ro,type=vfat,part=2,uid=7,gid=8,umask=077,dmask=022,noexec,errors=continue,"
                    "commit=1,label=a\\,b,allow_other,start=0x100");
    ck_assert(options.readonly && !options.readwrite && options.allow_other);
    ck_assert_str_eq(options.type, "vfat");
    ck_assert_str_eq(options.part, "2");
    ck_assert(options.has_start && options.start == 256);
    ck_assert_str_eq(text_string(&options.kernel), "noexec");
    ck_assert_int_eq(front_options_for_volume(&options, true, &volume), 0);
    ck_assert_str_eq(text_string(&volume), "ro,uid=7,gid=8,fmask=077,dmask=022,errors=continue,"
                                           "commit=1,label=a\\,b");
}
END_TEST

START_TEST(options_of_others_are_dropped) {
    static const char *const lists[] = {
        "auto",
        "noauto,nofail,_netdev",
        "user,users,owner,group",
        "user=alice",
        "defaults,exec",
        "x-systemd.automount,x-gvfs-show,X-mount.mkdir",
        "comment=hello world",
        "uhelper=berth,helper=x",
        "nosuid,nodev,relatime,async",
        ",,",
        "",
    };

    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        _cleanup_(front_options_done) FrontOptions options;

        parse(&options, lists[i]);
        ck_assert_msg(options.volume.length == 0 && options.kernel.length == 0, "%s left %s / %s",
                      lists[i], text_string(&options.volume), text_string(&options.kernel));
    }
}
END_TEST

START_TEST(options_last_one_wins) {
    _cleanup_(front_options_done) FrontOptions options;

    parse(&options, "ro,rw,direct,daemon=auto,umask=0,fmask=111");
    ck_assert(!options.readonly && options.readwrite);
    ck_assert_int_eq(options.daemon, FRONT_DAEMON_AUTO);
    ck_assert_uint_eq(options.fmask, 0111);
    ck_assert_uint_eq(options.dmask, 0);
}
END_TEST

START_TEST(options_bad_values_are_named) {
    static const char *const bad[] = {"uid=no such user", "umask=888", "umask", "type=",
                                      "daemon=maybe",     "start=ten", "part",  "fmask=7777777"};

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        _cleanup_(front_options_done) FrontOptions options;
        char text[256] = "";
        char name[8] = "";

        front_options_init(&options);
        ck_assert_msg(front_options_add(&options, bad[i], text) == -EINVAL, "%s was taken", bad[i]);
        (void)snprintf(name, sizeof(name), "%.4s", bad[i]);
        ck_assert_msg(strstr(text, name) != NULL, "%s: \"%s\" does not name it", bad[i], text);
    }
}
END_TEST

/* ---- nodes ---- */

static unsigned forget(Nodes *nodes, uint64_t file_id, uint64_t count, uint64_t *seen) {
    const NodeForget one = {.file_id = file_id, .lookups = count};
    uint64_t gone = 0;
    unsigned n = nodes_forget(nodes, &one, 1, &gone);

    ck_assert(n == 0 || gone == file_id);
    ck_assert_uint_eq(nodes_keep_gone(nodes, &gone, n, seen), n);
    return n;
}

START_TEST(nodes_count_lookups) {
    Nodes nodes;
    uint64_t seen;

    ck_assert_int_eq(nodes_init(&nodes, NULL), 0);
    ck_assert_int_eq(nodes_grant(&nodes, 50), 0);
    ck_assert_int_eq(nodes_grant(&nodes, 50), 0);
    nodes_saw(&nodes, 7);
    ck_assert_uint_eq(forget(&nodes, 50, 1, &seen), 0);
    ck_assert_uint_eq(forget(&nodes, 50, 1, &seen), 1);
    ck_assert_uint_eq(seen, 7);
    ck_assert_uint_eq(forget(&nodes, 50, 1, &seen), 0); /* nobody knows it any more */
    ck_assert_uint_eq(forget(&nodes, FS_ROOT_ID, 1000, &seen), 0);
    ck_assert_uint_eq(nodes_count(&nodes), 1);
    nodes_done(&nodes);
}
END_TEST

START_TEST(nodes_seen_never_goes_back) {
    Nodes nodes;
    uint64_t seen;

    ck_assert_int_eq(nodes_init(&nodes, NULL), 0);
    nodes_saw(&nodes, 9);
    nodes_saw(&nodes, 4);
    ck_assert_int_eq(nodes_grant(&nodes, 2), 0);
    ck_assert_uint_eq(forget(&nodes, 2, 99, &seen), 1); /* more than it had: all it had */
    ck_assert_uint_eq(seen, 9);
    nodes_done(&nodes);
}
END_TEST

START_TEST(nodes_keep_attributes_of_what_is_held) {
    FsAttr attr = {.file_id = 60, .type = FS_TYPE_FILE, .size = 5}, got;
    Nodes nodes;
    uint64_t seen;

    ck_assert_int_eq(nodes_init(&nodes, NULL), 0);
    nodes_attr_store(&nodes, &attr);
    ck_assert(!nodes_attr_get(&nodes, 60, &got)); /* not held: not kept */
    ck_assert_int_eq(nodes_grant(&nodes, 60), 0);
    ck_assert(!nodes_attr_get(&nodes, 60, &got));
    nodes_attr_store(&nodes, &attr);
    ck_assert(nodes_attr_get(&nodes, 60, &got) && got.size == 5);
    nodes_attr_drop(&nodes, 60);
    ck_assert(!nodes_attr_get(&nodes, 60, &got));
    nodes_attr_store(&nodes, &attr);
    ck_assert_uint_eq(forget(&nodes, 60, 1, &seen), 1);
    ck_assert(!nodes_attr_get(&nodes, 60, &got));
    nodes_done(&nodes);
}
END_TEST

START_TEST(evictions_of_what_is_held_again_are_dropped) {
    Nodes nodes;
    uint64_t ids[] = {20, 21, 22}, seen;
    const NodeForget all[] = {{20, 1}, {21, 1}, {22, 1}};

    ck_assert_int_eq(nodes_init(&nodes, NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
        ck_assert_int_eq(nodes_grant(&nodes, ids[i]), 0);
    }
    ck_assert_uint_eq(nodes_forget(&nodes, all, 3, ids), 3);
    nodes_saw(&nodes, 30);
    ck_assert_int_eq(nodes_grant(&nodes, 21), 0);
    ck_assert_uint_eq(nodes_keep_gone(&nodes, ids, 3, &seen), 2);
    ck_assert(ids[0] == 20 && ids[1] == 22 && seen == 30);
    nodes_done(&nodes);
}
END_TEST

/* ---- names ---- */

static FsName name_of(const char *text) {
    return (FsName){.text = text, .length = (uint32_t)strlen(text)};
}

/* The file_id that the nodes answer, 0 for none. */
static uint64_t look_up(Nodes *nodes, uint64_t directory, const char *text, bool *exact) {
    const FsName name = name_of(text);
    FsAttr attr;

    return nodes_lookup(nodes, directory, &name, &attr, exact) ? attr.file_id : 0;
}

static void hold(Nodes *nodes, uint64_t file_id) {
    const FsAttr attr = {.file_id = file_id, .type = FS_TYPE_FILE, .nlink = 1};

    ck_assert_int_eq(nodes_grant(nodes, file_id), 0);
    nodes_attr_store(nodes, &attr);
}

static void know(Nodes *nodes, uint64_t directory, const char *text, bool exact, uint64_t id) {
    const FsName name = name_of(text);

    nodes_name_store(nodes, directory, &name, exact, id);
}

START_TEST(names_raise_the_count_and_go_with_their_nodes) {
    Nodes nodes;
    uint64_t seen;
    bool exact = false;

    ck_assert_int_eq(nodes_init(&nodes, NULL), 0);
    know(&nodes, FS_ROOT_ID, "early", true, 40); /* not held: not kept */
    hold(&nodes, 40);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "early", &exact), 0);
    know(&nodes, FS_ROOT_ID, "foo", true, 40);
    know(&nodes, FS_ROOT_ID, "FOO", false, 40);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "foo", &exact), 40);
    ck_assert(exact);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "FOO", &exact), 40);
    ck_assert(!exact);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "Foo", &exact), 0);
    ck_assert_uint_eq(look_up(&nodes, 40, "foo", &exact), 0);
    ck_assert_uint_eq(forget(&nodes, 40, 2, &seen), 0);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "foo", &exact), 40);
    ck_assert_uint_eq(forget(&nodes, 40, 2, &seen), 1);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "foo", &exact), 0);
    ck_assert_uint_eq(nodes_stats(&nodes).names, 0);
    hold(&nodes, 40); /* another file at the same place */
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "foo", &exact), 0);
    hold(&nodes, 41); /* names go with their directory too */
    know(&nodes, 40, "below", true, 41);
    ck_assert_uint_eq(forget(&nodes, 40, 1, &seen), 1);
    hold(&nodes, 40);
    ck_assert_uint_eq(look_up(&nodes, 40, "below", &exact), 0);
    nodes_done(&nodes);
}
END_TEST

START_TEST(names_are_dropped_by_file_and_by_directory) {
    Nodes nodes;
    bool exact;

    ck_assert_int_eq(nodes_init(&nodes, NULL), 0);
    hold(&nodes, 50);
    hold(&nodes, 51);
    know(&nodes, FS_ROOT_ID, "a", true, 50);
    know(&nodes, FS_ROOT_ID, "A", false, 50);
    know(&nodes, FS_ROOT_ID, "b", true, 51);
    nodes_name_drop_of(&nodes, 50);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "a", &exact), 0);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "A", &exact), 0);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "b", &exact), 51);
    know(&nodes, FS_ROOT_ID, "b", true, 50);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "b", &exact), 50);
    nodes_name_drop_in(&nodes, FS_ROOT_ID);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "b", &exact), 0);
    know(&nodes, FS_ROOT_ID, "b", true, 51); /* lives as long as the nodes */
    nodes_done(&nodes);
}
END_TEST

START_TEST(the_end_of_a_listing_is_known_until_a_name_changes) {
    Nodes nodes;
    uint64_t seen;

    ck_assert_int_eq(nodes_init(&nodes, NULL), 0);
    ck_assert(!nodes_list_ended(&nodes, FS_ROOT_ID, 0)); /* the start never is the end */
    ck_assert(!nodes_list_ended(&nodes, FS_ROOT_ID, 2));
    nodes_list_end_store(&nodes, FS_ROOT_ID, 2);
    ck_assert(nodes_list_ended(&nodes, FS_ROOT_ID, 2));
    ck_assert(!nodes_list_ended(&nodes, FS_ROOT_ID, 1));
    ck_assert(!nodes_list_ended(&nodes, FS_ROOT_ID, 3));
    ck_assert_uint_eq(nodes_stats(&nodes).answers, 1);
    nodes_list_end_drop(&nodes, FS_ROOT_ID);
    ck_assert(!nodes_list_ended(&nodes, FS_ROOT_ID, 2));
    nodes_list_end_store(&nodes, 60, 9); /* not held: not kept */
    hold(&nodes, 60);
    ck_assert(!nodes_list_ended(&nodes, 60, 9));
    nodes_list_end_store(&nodes, 60, 9);
    ck_assert(nodes_list_ended(&nodes, 60, 9));
    ck_assert_uint_eq(forget(&nodes, 60, 1, &seen), 1);
    hold(&nodes, 60);
    ck_assert(!nodes_list_ended(&nodes, 60, 9));
    nodes_done(&nodes);
}
END_TEST

START_TEST(names_are_bounded) {
    Nodes nodes;
    char text[32];
    bool exact;

    ck_assert_int_eq(nodes_init(&nodes, NULL), 0);
    hold(&nodes, 60);
    for (unsigned i = 0; i < NAMES_MAX + 10; i++) {
        (void)snprintf(text, sizeof(text), "name %u", i);
        know(&nodes, FS_ROOT_ID, text, true, 60);
        /* Used all the time, so not the one to go. */
        ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "name 0", &exact), 60);
    }
    ck_assert_uint_eq(nodes_stats(&nodes).names, NAMES_MAX);
    ck_assert_uint_eq(look_up(&nodes, FS_ROOT_ID, "name 1", &exact), 0);
    nodes_done(&nodes);
}
END_TEST

/* ---- what a response may say ---- */

static Pending pending_of(FSMessageType type) {
    Pending pending = {.request = {.type = (uint16_t)type, .file_id = 10, .length = 100}};

    return pending;
}

static FSResponse file_response(FSMessageType type, uint64_t file_id) {
    FSResponse response = {.type = (uint16_t)type,
                           .flags = FS_RESP_ATTR,
                           .attr = {.file_id = file_id, .type = FS_TYPE_FILE, .nlink = 1}};

    return response;
}

static void expect(const Pending *pending, const FSResponse *response, int result) {
    char text[128] = "";
    int r = response_check(pending, response, text);

    ck_assert_msg(r == result, "%s: %d (%s)", fs_message_name(pending->request.type), r, text);
    ck_assert(r == 0 || text[0] != 0);
}

START_TEST(response_read_is_bounded) {
    Pending pending = pending_of(FS_MSG_READ_FILE);
    FSResponse response = {.type = FS_MSG_READ_FILE, .result = 100, .data_length = 100};

    expect(&pending, &response, 0);
    response.result = 101;
    expect(&pending, &response, -EPROTO); /* more than asked */
    response.result = 50;
    expect(&pending, &response, -EPROTO); /* not what it carries */
    response.result = 100;
    response.flags = FS_RESP_ARENA;
    expect(&pending, &response, -EPROTO); /* no slot was given */
    pending.has_in = true;
    pending.in.length = 80;
    expect(&pending, &response, -EPROTO); /* beyond the slot */
    pending.in.length = 100;
    expect(&pending, &response, 0);
    response.type = FS_MSG_LOOKUP;
    expect(&pending, &response, -EPROTO);
}
END_TEST

START_TEST(response_attributes_are_the_right_ones) {
    Pending pending = pending_of(FS_MSG_GET_ATTR);
    FSResponse response = file_response(FS_MSG_GET_ATTR, 10);

    expect(&pending, &response, 0);
    response.attr.file_id = 11;
    expect(&pending, &response, -EPROTO);
    response.attr.file_id = 10;
    response.attr.type = FS_TYPE_COUNT;
    expect(&pending, &response, -EPROTO);
    response.attr.type = FS_TYPE_FILE;
    response.attr.size = UINT64_C(1) << 63;
    expect(&pending, &response, -EPROTO);
}
END_TEST

START_TEST(response_lookup_names_an_object) {
    Pending pending = pending_of(FS_MSG_LOOKUP);
    FSResponse response = file_response(FS_MSG_LOOKUP, 77);

    expect(&pending, &response, 0);
    response.attr.file_id = FS_ROOT_ID;
    expect(&pending, &response, -EPROTO);
    response.attr.file_id = 0;
    expect(&pending, &response, -EPROTO);
    response.flags = 0;
    expect(&pending, &response, -EPROTO); /* success without attributes */
    response.result = 1;
    expect(&pending, &response, -EPROTO);
    response.result = -ENOENT;
    expect(&pending, &response, 0);
}
END_TEST

START_TEST(response_statfs_has_seven_words) {
    Pending pending = pending_of(FS_MSG_STATFS);
    FSResponse response = {.type = FS_MSG_STATFS, .data_length = 56};

    expect(&pending, &response, 0);
    response.data_length = 48;
    expect(&pending, &response, -EPROTO);
}
END_TEST

/* ---- the pending table against a fake daemon ---- */

static const FileSystemType fake_type = {.name = "fake", .daemon = "faked"};

typedef struct FakeDaemon FakeDaemon;
/* Fills in the answer; false: none is sent. */
typedef bool Answer(FakeDaemon *fake, const FSRequest *request, FSResponse *response);
struct FakeDaemon {
    Front *front;
    Transport *transport;
    Answer *answer;
    pthread_t thread;
    uint64_t number;
    unsigned received;
    uint64_t ids[8]; /* request_ids, the first ones */
};

static void *fake_daemon(void *arg) {
    FakeDaemon *fake = arg;
    _cleanup_free_ uint8_t *buf = malloc(FS_MESSAGE_MAX);
    char text[128];
    int n;

    ck_assert_ptr_nonnull(buf);
    while ((n = transport_receive(fake->transport, buf, FS_MESSAGE_MAX)) > 0) {
        FSResponse response = {0};
        FSRequest request;

        if (fs_request_decode(buf, (size_t)n, &request, text) < 0) {
            break;
        }
        if (fake->received < ARRAY_SIZE(fake->ids)) {
            fake->ids[fake->received] = request.request_id;
        }
        fake->received++;
        response.type = request.type;
        response.request_id = request.request_id;
        response.number = ++fake->number;
        if (fake->answer(fake, &request, &response)) {
            n = fs_response_encode(&response, buf, FS_MESSAGE_MAX);
            if (n < 0 || transport_send(fake->transport, buf, (size_t)n) < 0) {
                break;
            }
        }
    }
    transport_shutdown(fake->transport);
    return NULL;
}

static void make_rings(Transport *front, Transport *daemon) {
    int fds[HELLO_RING_FDS], theirs[HELLO_RING_FDS];

    ck_assert_int_eq(transport_ring_offer(front, PENDING_TOTAL, fds), 0);
    for (size_t i = 0; i < HELLO_RING_FDS; i++) {
        theirs[i] = dup(fds[i]);
        ck_assert_int_ge(theirs[i], 0);
    }
    transport_ring_settle(front, true);
    ck_assert_int_eq(transport_ring_accept(daemon, PENDING_TOTAL, theirs), 0);
}

/* On the heap: a Front is large. */
static Front *front_over(FakeDaemon *fake, Answer *answer, bool ring) {
    Front *front = calloc(1, sizeof(*front));
    Channel *channel = NULL, *peer = NULL;
    int peer_fd;

    ck_assert_ptr_nonnull(front);
    front->daemon = calloc(1, sizeof(DaemonProcess));
    ck_assert_ptr_nonnull(front->daemon);
    *front->daemon =
        (DaemonProcess){.front = front, .pidfd = -1, .log_fd = -1, .fence_fd = -1, .image_fd = -1};
    fences_init(&front->fences);
    front->type = &fake_type;
    front->source_given = "fake.img";
    ck_assert_int_eq(pending_table_init(&front->pending), 0);
    ck_assert_int_eq(nodes_init(&front->nodes, NULL), 0);
    ck_assert_int_eq(arena_new("test-in", 4, 1, 0, false, &front->arena_in), 0);
    ck_assert_int_eq(arena_new("test-out", 4, 1, 80, true, &front->arena_out), 0);
    ck_assert_int_eq(channel_pair(&channel, &peer_fd), 0);
    ck_assert_int_eq(transport_new(channel, &front->daemon->transport), 0);
    *fake = (FakeDaemon){.front = front, .answer = answer};
    ck_assert_int_eq(channel_new(peer_fd, &peer), 0);
    ck_assert_int_eq(transport_new(peer, &fake->transport), 0);
    if (ring) {
        make_rings(front->daemon->transport, fake->transport);
    }
    pending_set_daemon(&front->pending, front->daemon);
    ck_assert_int_eq(pthread_create(&fake->thread, NULL, fake_daemon, fake), 0);
    ck_assert_int_eq(replies_start(front->daemon), 0);
    return front;
}

static Front *front_with(FakeDaemon *fake, Answer *answer) {
    return front_over(fake, answer, false);
}

static void front_end(Front *front, FakeDaemon *fake) {
    atomic_store(&front->closing, true);
    transport_shutdown(front->daemon->transport);
    pthread_join(fake->thread, NULL);
    transport_free(fake->transport);
    front->daemon = daemon_free(front->daemon);
    fences_done(&front->fences);
    arena_free(front->arena_in);
    arena_free(front->arena_out);
    nodes_done(&front->nodes);
    pending_table_done(&front->pending); /* asserts that nothing is left in flight */
    free(front);
}

static int call(Front *front, FSMessageType type) {
    FSResponse response;

    return front_call(front, type, 0, NULL, 20000, &response, NULL);
}

static bool answer_plainly(FakeDaemon *fake, const FSRequest *request, FSResponse *response) {
    response->result = request->type == FS_MSG_SYNC ? 0 : -ENOSYS;
    return true;
}

START_TEST(pending_calls_are_answered) {
    FakeDaemon fake;
    Front *front = front_with(&fake, answer_plainly);

    for (unsigned i = 0; i < 3 * PENDING_SLOTS; i++) { /* each slot is used again */
        ck_assert_int_eq(call(front, FS_MSG_SYNC), 0);
    }
    ck_assert_int_eq(call(front, FS_MSG_UNMOUNT), -ENOSYS);
    ck_assert_uint_eq(front->nodes.seen, fake.number);
    ck_assert_uint_ne(fake.ids[0], fake.ids[1]);
    front_end(front, &fake);
}
END_TEST

static bool answer_twice(FakeDaemon *fake, const FSRequest *request, FSResponse *response) {
    _cleanup_free_ uint8_t *buf = malloc(FS_MESSAGE_MAX);
    int n = buf == NULL ? -1 : fs_response_encode(response, buf, FS_MESSAGE_MAX);

    if (n > 0) {
        (void)transport_send(fake->transport, buf, (size_t)n);
    }
    response->number = ++fake->number;
    return true;
}

static bool answer_with_old_number(FakeDaemon *fake, const FSRequest *request,
                                   FSResponse *response) {
    response->number = 1;
    return true;
}

static bool answer_another_request(FakeDaemon *fake, const FSRequest *request,
                                   FSResponse *response) {
    response->request_id += 1;
    return true;
}

static bool answer_another_type(FakeDaemon *fake, const FSRequest *request, FSResponse *response) {
    response->type = FS_MSG_PING;
    return true;
}

static bool answer_with_rubbish(FakeDaemon *fake, const FSRequest *request, FSResponse *response) {
    (void)transport_send(fake->transport, "not a message at all", 20);
    return false;
}

static bool answer_nothing(FakeDaemon *fake, const FSRequest *request, FSResponse *response) {
    transport_shutdown(fake->transport);
    return false;
}

/* Each breaks the protocol, or dies: calls fail with EIO, now and later, and nothing hangs. */
START_TEST(pending_survives_a_bad_daemon) {
    Answer *const bad[] = {answer_another_request, answer_another_type, answer_with_rubbish,
                           answer_nothing};
    FakeDaemon fake;
    Front *front = front_with(&fake, bad[_i]);

    log_set_sink(NULL, NULL);
    ck_assert_int_eq(call(front, FS_MSG_SYNC), -EIO);
    pthread_join(front->daemon->replier, NULL);
    front->daemon->replier_started = false;
    ck_assert_int_eq(call(front, FS_MSG_SYNC), -EIO);
    front_end(front, &fake);
}
END_TEST

/* The first answer of these is good, what follows is not. */
START_TEST(pending_takes_an_answer_once) {
    Answer *const bad[] = {answer_twice, answer_with_old_number};
    FakeDaemon fake;
    Front *front = front_with(&fake, bad[_i]);
    int r = 0;

    ck_assert_int_eq(call(front, FS_MSG_SYNC), 0);
    for (unsigned i = 0; i < 2 && r == 0; i++) {
        r = call(front, FS_MSG_SYNC);
    }
    ck_assert_int_eq(r, -EIO);
    front_end(front, &fake);
}
END_TEST

/* ---- grants and EVICT through the replier ---- */

typedef struct Finished {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    int result;
    uint64_t seen; /* nodes.seen as the reply is written */
} Finished;

static void finish_noting(Front *front, Pending *pending, const FSResponse *response) {
    Finished *finished = pending->context;

    pthread_mutex_lock(&finished->lock);
    finished->done = true;
    finished->result = response->result;
    finished->seen = front->nodes.seen;
    pthread_cond_signal(&finished->changed);
    pthread_mutex_unlock(&finished->lock);
}

/* The kernel's request lies in a buffer that the next one overwrites. */
static char asked[] = "name";

static bool answer_lookup(FakeDaemon *fake, const FSRequest *request, FSResponse *response) {
    memcpy(asked, "next", 4);
    if (request->type == FS_MSG_LOOKUP) {
        response->flags = FS_RESP_ATTR | FS_RESP_EXACT | FS_RESP_PARENT_ATTR;
        response->attr = (FsAttr){.file_id = 500, .type = FS_TYPE_FILE, .nlink = 1, .size = 3};
        response->parent = (FsAttr){.file_id = FS_ROOT_ID, .type = FS_TYPE_DIRECTORY, .nlink = 2};
    }
    return true;
}

START_TEST(grants_come_before_the_reply) {
    Finished finished = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    FakeDaemon fake;
    Front *front = front_with(&fake, answer_lookup);
    Pending *pending = pending_get(front, FS_MSG_LOOKUP, finish_noting);
    uint64_t seen;
    FsAttr attr;
    bool exact = false;

    pending->context = &finished;
    pending->request.file_id = FS_ROOT_ID;
    pending->request.name = (FsName){.text = asked, .length = 4};
    pending_start(front, pending);
    pthread_mutex_lock(&finished.lock);
    while (!finished.done) {
        pthread_cond_wait(&finished.changed, &finished.lock);
    }
    pthread_mutex_unlock(&finished.lock);
    ck_assert_int_eq(finished.result, 0);
    ck_assert_uint_eq(finished.seen, 1); /* an EVICT from here on covers this response */
    ck_assert(nodes_attr_get(&front->nodes, 500, &attr) && attr.size == 3);
    ck_assert(nodes_attr_get(&front->nodes, FS_ROOT_ID, &attr) && attr.nlink == 2);
    ck_assert_uint_eq(look_up(&front->nodes, FS_ROOT_ID, "next", &exact), 0);
    ck_assert_uint_eq(look_up(&front->nodes, FS_ROOT_ID, "name", &exact), 500);
    ck_assert(exact == true);
    ck_assert_uint_eq(forget(&front->nodes, 500, 2, &seen), 1);
    ck_assert_uint_eq(seen, 1);
    front_end(front, &fake);
}
END_TEST

/* ---- the receiver in the replier's place ---- */

/* As the receiver asks for the kernel: the one request in flight, over a ring. */
static int ask(Front *front, Finished *finished) {
    Pending *pending = pending_get(front, FS_MSG_SYNC, finish_noting);

    finished->done = false;
    pending->context = finished;
    pending->fuse = (struct fuse_req *)finished; /* only asked whether there is one */
    pending_start(front, pending);
    pthread_mutex_lock(&finished->lock);
    while (!finished->done) {
        pthread_cond_wait(&finished->changed, &finished->lock);
    }
    pthread_mutex_unlock(&finished->lock);
    return finished->result;
}

static bool answer_now_and_then_late(FakeDaemon *fake, const FSRequest *request,
                                     FSResponse *response) {
    if (fake->received % 7 == 0) {
        usleep(400); /* longer than any look */
    }
    return true;
}

START_TEST(asking_is_answered) {
    Finished finished = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    FakeDaemon fake;
    Front *front = front_over(&fake, _i == 0 ? answer_plainly : answer_now_and_then_late, true);

    for (unsigned i = 0; i < 4000; i++) {
        ck_assert_int_eq(ask(front, &finished), 0);
        if (i % 5 == 0) { /* the keeper's own come in between, and are the replier's */
            ck_assert_int_eq(call(front, FS_MSG_SYNC), 0);
        }
    }
    front_end(front, &fake);
}
END_TEST

/* Whoever finds the rule broken: the daemon is ended, nothing hangs. The first bad answer may come
 * after many good ones, so that it is not always the replier that meets it. */
static Answer *bad_answer;
static bool answer_badly_later(FakeDaemon *fake, const FSRequest *request, FSResponse *response) {
    return fake->received % 50 != 0 || bad_answer(fake, request, response);
}

START_TEST(asking_survives_a_bad_daemon) {
    Answer *const bad[] = {answer_another_request, answer_another_type,    answer_with_rubbish,
                           answer_nothing,         answer_with_old_number, answer_twice};
    Finished finished = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    FakeDaemon fake;
    Front *front;
    int r = 0;

    log_set_sink(NULL, NULL);
    bad_answer = bad[_i % (int)ARRAY_SIZE(bad)];
    front = front_over(&fake, answer_badly_later, true);
    for (unsigned i = 0; i < 60 && r == 0; i++) {
        r = ask(front, &finished);
    }
    ck_assert_int_eq(r, -EIO);
    pthread_join(front->daemon->replier, NULL);
    front->daemon->replier_started = false;
    ck_assert_int_eq(ask(front, &finished), -EIO);
    front_end(front, &fake);
}
END_TEST

static Suite *front_suite(void) {
    Suite *suite = suite_create("front");
    TCase *options = tcase_create("options"), *nodes = tcase_create("nodes");
    TCase *response = tcase_create("response"), *pending = tcase_create("pending");

    tcase_add_test(options, options_are_sorted);
    tcase_add_test(options, options_of_others_are_dropped);
    tcase_add_test(options, options_last_one_wins);
    tcase_add_test(options, options_bad_values_are_named);
    tcase_add_test(nodes, nodes_count_lookups);
    tcase_add_test(nodes, nodes_seen_never_goes_back);
    tcase_add_test(nodes, nodes_keep_attributes_of_what_is_held);
    tcase_add_test(nodes, evictions_of_what_is_held_again_are_dropped);
    tcase_add_test(nodes, names_raise_the_count_and_go_with_their_nodes);
    tcase_add_test(nodes, names_are_dropped_by_file_and_by_directory);
    tcase_add_test(nodes, the_end_of_a_listing_is_known_until_a_name_changes);
    tcase_add_test(nodes, names_are_bounded);
    tcase_add_test(response, response_read_is_bounded);
    tcase_add_test(response, response_attributes_are_the_right_ones);
    tcase_add_test(response, response_lookup_names_an_object);
    tcase_add_test(response, response_statfs_has_seven_words);
    tcase_set_timeout(pending, 60);
    tcase_add_test(pending, pending_calls_are_answered);
    tcase_add_loop_test(pending, pending_survives_a_bad_daemon, 0, 4);
    tcase_add_loop_test(pending, pending_takes_an_answer_once, 0, 2);
    tcase_add_test(pending, grants_come_before_the_reply);
    tcase_add_loop_test(pending, asking_is_answered, 0, 2);
    tcase_add_loop_test(pending, asking_survives_a_bad_daemon, 0, 60);
    suite_add_tcase(suite, options);
    suite_add_tcase(suite, nodes);
    suite_add_tcase(suite, response);
    suite_add_tcase(suite, pending);
    return suite;
}

int main(void) {
    SRunner *runner = srunner_create(front_suite());
    int failed;

    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
