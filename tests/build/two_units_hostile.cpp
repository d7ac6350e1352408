// SPDX-License-Identifier: BSL-1.0
#include <sys/param.h>
#include <sys/sysmacros.h>
#include <others.hpp>

// windows.h and what it includes
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define small char
#define interface struct
#define near
#define far
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define ERROR 0
#define NO_ERROR 0
#define DELETE 0x00010000
#define STRICT 1
#define Yield()
// X11
#define Status int
#define Bool int
#define None 0
#define Always 2
#define Success 0
#define True 1
#define False 0
// macOS's AssertMacros.h, Linux's compiler.h, Qt, curses, complex.h, ctype.h of newlib
#define check(x) (x)
#define require(x, label) (x)
#define verify(x) (x)
#define likely(x) (x)
#define unlikely(x) (x)
#define emit
#define signals public
#define slots
#define foreach for
#define forever for (;;)
#define OK 0
#define ERR (-1)
#define I 1
#define _C 040
#define _N 04
#define _X 0100
// what programs define in a hurry
#define DEBUG 1
#define VERSION "1"
#define PI 3
#define TRUE 1
#define FALSE 0
#define assert(x) no_such_function(x)
// already there after the headers above, or with GNU's dialect; otherwise here
#ifndef linux
#define linux 1
#endif
#ifndef unix
#define unix 1
#endif
#ifndef major
#define major(device) (device)
#define minor(device) (device)
#endif

#include <rejoin.hpp>

rejoin::Description from_hostile_unit(const rejoin::Endpoint& endpoint);
rejoin::Description from_hostile_unit(const rejoin::Endpoint& endpoint) { return to_text(endpoint); }
