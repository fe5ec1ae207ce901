package foreign

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// asUser runs f with the file permissions of a user, if this is root: by the
// file-system ids of the thread alone (setfsuid(2)), so that the user can
// neither signal it nor be left with it. The calling goroutine must end after
// it: its thread is not used for anything else.
func asUser(user *syscall.Credential, f func()) error {
	if user == nil || os.Geteuid() != 0 || user.Uid == 0 {
		f()
		return nil
	}
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	if err := setThreadGroups(user.Groups); err != nil {
		return err
	}
	if err := unix.Setfsgid(int(user.Gid)); err != nil {
		return err
	}
	if err := unix.Setfsuid(int(user.Uid)); err != nil {
		return err
	}
	if is, err := unix.SetfsuidRetUid(-1); err != nil || is != int(user.Uid) {
		return unix.EPERM
	}
	f()
	return nil
}

// setThreadGroups sets the supplementary groups of this thread alone, which
// syscall.Setgroups does for all of them.
func setThreadGroups(groups []uint32) error {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, e := unix.RawSyscall(setgroups, uintptr(len(groups)), uintptr(first), 0); e != 0 {
		return e
	}
	return nil
}
