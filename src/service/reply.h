/* SPDX-License-Identifier: MIT */
/*
 * The compact form of a response that a transaction's record carries, at most 256
 * bytes: what a replay after the daemon's death needs to answer a re-sent request
 * without running it again (man berth-recovery.7, sections 1 and 7). Exactly-once
 * replay will use it when the log outlives the daemon.
 */
#ifndef BERTH_SERVICE_REPLY_H
#define BERTH_SERVICE_REPLY_H

#include "berth/message.h"

#define SERVICE_REPLY_MAX 256u

/* Bytes written, or -EMSGSIZE. The request_id and the number are not part of it. */
int service_reply_encode(const FSResponse *response, uint8_t *buf, uint32_t capacity);
/* 0 or -EPROTO: the bytes may come from a scribbled log. */
int service_reply_decode(const uint8_t *buf, uint32_t length, FSResponse *ret);

#endif
