/* SPDX-License-Identifier: MIT */
/*
 * berth top on a terminal, with ncurses. Two threads: the sampler asks the mounts,
 * which may take a second for each that does not answer; this one draws what was
 * sampled last and listens to keys, so that it always answers at once. The only
 * thing they share is `latest`, under a lock that is never held for long.
 *
 * No colours: bold and reverse say the same on every terminal.
 */
#include "top.h"

#include "berth/log.h"
#include "berth/stats.h"

#include <curses.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>

typedef struct Screen {
    const TopConfig *config;
    TopSort sort;
    bool help;
    size_t first; /* row at the top */
    TopSnapshot shown;

    pthread_mutex_t lock;
    TopSnapshot latest; /* under lock */
    bool fresh;         /* under lock: not yet shown */
    bool finished;      /* under lock: no more will come */
    int stop_fd, news_fd;
} Screen;

/* ---- the sampler's thread ---- */

static void raise_event(int fd) {
    uint64_t one = 1;

    (void)!write(fd, &one, sizeof(one));
}

static void publish(Screen *screen, TopSnapshot *snapshot, bool last) {
    pthread_mutex_lock(&screen->lock);
    if (snapshot != NULL) {
        top_snapshot_done(&screen->latest);
        screen->latest = *snapshot;
        screen->fresh = true;
    }
    screen->finished = last;
    pthread_mutex_unlock(&screen->lock);
    raise_event(screen->news_fd);
}

/* Waits until the next sample is due. False: stop. */
static bool pause_until(const Screen *screen, uint64_t due_ns) {
    struct pollfd stop = {.fd = screen->stop_fd, .events = POLLIN};
    uint64_t now;

    while ((now = clock_monotonic_ns()) < due_ns) {
        if (poll(&stop, 1, (int)div_ceil(due_ns - now, 1000000)) > 0) {
            return false;
        }
    }
    return poll(&stop, 1, 0) <= 0;
}

static void *sample_thread(void *arg) {
    Screen *screen = arg;
    TopSampler *sampler = top_sampler_new();
    uint64_t round = 0;
    bool go_on = sampler != NULL;

    while (go_on) {
        uint64_t begun_ns = clock_monotonic_ns();
        TopSnapshot snapshot;

        if (top_sample(sampler, &snapshot) == 0) {
            publish(screen, &snapshot, false);
        }
        go_on = ++round != screen->config->rounds &&
                pause_until(screen, begun_ns + screen->config->delay_ms * UINT64_C(1000000));
    }
    top_sampler_free(sampler);
    publish(screen, NULL, true);
    return NULL;
}

/* Signals are for the thread that draws: a changed window must interrupt its poll(). */
static int start_thread(Screen *screen, pthread_t *ret) {
    sigset_t all, old;
    int r;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(ret, NULL, sample_thread, screen);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}

/* ---- drawing ---- */

static void draw_line(int y, const char *text, attr_t attributes) {
    (void)move(y, 0);
    (void)clrtoeol();
    (void)attron(attributes);
    (void)addstr(text);
    (void)attroff(attributes);
}

static void draw_help(void) {
    static const char *const lines[] = {
        "berth top: what the mounts do",
        "",
        "  q        quit",
        "  s        sort by the next column: operations, latency, bytes, restarts, directory",
        "  h, ?     this page; any key leaves it",
        "  up, down, page up, page down   more mounts than fit",
        "",
        "  OPS/S    requests from the kernel, per second",
        "  MSG/S    messages to the daemon, per second",
        "  P50 P99  half, or 99 of 100, of the messages took no longer than this",
        "  HIT%     metadata blocks that were in the daemon's cache",
        "  READ/S, WRITE/S   bytes of files",
        "  RST      daemons that took over after another had died",
    };

    (void)erase();
    for (size_t i = 0; i < ARRAY_SIZE(lines) && (int)i < LINES; i++) {
        (void)mvaddnstr((int)i, 0, lines[i], COLS);
    }
    (void)refresh();
}

static bool is_remarkable(const TopRow *row) {
    return !row->answers || row->restarts > 0 || strcmp(row->state, "running") != 0;
}

static void draw(Screen *screen) {
    char line[TOP_LINE_MAX];
    size_t room = LINES > 3 ? (size_t)LINES - 3 : 0, count = screen->shown.count;

    if (screen->help) {
        draw_help();
        return;
    }
    screen->first = count > room ? MIN(screen->first, count - room) : 0;
    (void)erase();
    top_format_head(&screen->shown, COLS, line);
    draw_line(0, line, A_NORMAL);
    (void)snprintf(line, sizeof(line), "every %.1f s, by %s (q quit, s sort, h help)",
                   screen->config->delay_ms / 1000.0, top_sort_name(screen->sort));
    line[MIN((size_t)MAX(COLS, 0), strlen(line))] = '\0';
    draw_line(1, line, A_NORMAL);
    top_format_titles(COLS, line);
    draw_line(2, line, A_REVERSE);
    for (size_t i = 0; i < room && screen->first + i < count; i++) {
        const TopRow *row = &screen->shown.rows[screen->first + i];

        top_format_row(row, COLS, line);
        draw_line((int)i + 3, line, is_remarkable(row) ? A_BOLD : A_NORMAL);
    }
    (void)refresh();
}

/* Takes over what was sampled. False: nothing more will come. */
static bool take_news(Screen *screen) {
    bool finished;
    uint64_t events;

    (void)!read(screen->news_fd, &events, sizeof(events));
    pthread_mutex_lock(&screen->lock);
    if (screen->fresh) {
        top_snapshot_done(&screen->shown);
        screen->shown = screen->latest;
        screen->latest = (TopSnapshot){0};
        screen->fresh = false;
    }
    finished = screen->finished;
    pthread_mutex_unlock(&screen->lock);
    top_sort(&screen->shown, screen->sort);
    return !finished;
}

/* ---- keys ---- */

static void scroll_by(Screen *screen, int rows) {
    if (rows < 0) {
        screen->first -= MIN(screen->first, (size_t)-rows);
    } else {
        screen->first += (size_t)rows; /* draw() bounds it */
    }
}

/* False: quit. */
static bool on_key(Screen *screen, int key) {
    int page = MAX(LINES - 4, 1);

    if (key == 'q' || key == 'Q') {
        return false;
    }
    if (screen->help && key != KEY_RESIZE) {
        screen->help = false;
        return true;
    }
    switch (key) {
    case 's':
        screen->sort = (screen->sort + 1) % TOP_SORT_COUNT;
        top_sort(&screen->shown, screen->sort);
        break;
    case 'h':
    case '?':
        screen->help = true;
        break;
    case KEY_UP:
        scroll_by(screen, -1);
        break;
    case KEY_DOWN:
        scroll_by(screen, 1);
        break;
    case KEY_PPAGE:
        scroll_by(screen, -page);
        break;
    case KEY_NPAGE:
        scroll_by(screen, page);
        break;
    default: /* KEY_RESIZE: drawn anew in any case */
        break;
    }
    return true;
}

static void screen_loop(Screen *screen) {
    struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                            {.fd = screen->news_fd, .events = POLLIN}};
    bool go_on = true;
    int key;

    while (go_on) {
        draw(screen);
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return;
        }
        if (fds[1].revents != 0) {
            go_on = take_news(screen);
        }
        while (go_on && (key = getch()) != ERR) {
            go_on = on_key(screen, key);
        }
        if ((fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
            return; /* the terminal has gone */
        }
    }
}

static void screen_run(Screen *screen) {
    (void)cbreak();
    (void)noecho();
    (void)curs_set(0);
    (void)nodelay(stdscr, TRUE);
    (void)keypad(stdscr, TRUE);
    screen_loop(screen);
    (void)endwin();
}

int top_screen(const TopConfig *config) {
    Screen screen = {.config = config, .sort = config->sort};
    int code = EXIT_SYSTEM, r = -ENOMEM;
    SCREEN *terminal = NULL;
    pthread_t thread;

    screen.stop_fd = eventfd(0, EFD_CLOEXEC);
    screen.news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)pthread_mutex_init(&screen.lock, NULL);
    if (screen.stop_fd >= 0 && screen.news_fd >= 0) {
        terminal = newterm(NULL, stdout, stdin);
        if (terminal == NULL) {
            log_error("this terminal (TERM=%s) cannot be drawn on. Try berth top --batch",
                      getenv("TERM") != NULL ? getenv("TERM") : "");
            r = 0;
        } else {
            r = start_thread(&screen, &thread);
        }
    }
    if (terminal != NULL && r == 0) {
        screen_run(&screen);
        raise_event(screen.stop_fd);
        (void)pthread_join(thread, NULL);
        code = EXIT_OK;
    } else if (terminal != NULL) {
        (void)endwin();
    }
    if (r < 0) {
        log_error("top: %s", strerror(-r));
    }
    if (terminal != NULL) {
        delscreen(terminal);
    }
    top_snapshot_done(&screen.shown);
    top_snapshot_done(&screen.latest);
    (void)pthread_mutex_destroy(&screen.lock);
    if (screen.stop_fd >= 0) {
        (void)close(screen.stop_fd);
    }
    if (screen.news_fd >= 0) {
        (void)close(screen.news_fd);
    }
    return code;
}
