package namespace

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"kdev.test/cluster/driver/internal/layout"
)

// User is somebody who can sit at the laptop.
type User struct {
	Name string
	UID  int
	Home string
	// Sudo says that the user may become root without a password.
	Sudo bool
	// Kubeconfig says that the user has the administrator's kubeconfig in the usual place.
	Kubeconfig bool
}

// Users of every laptop: root, a developer, and somebody whom the developer's
// session is none of the business.
var Users = []User{
	{Name: "root", UID: 0, Home: "/root", Kubeconfig: true},
	{Name: "dev", UID: 1000, Home: "/home/dev", Sudo: true, Kubeconfig: true},
	{Name: "eve", UID: 1001, Home: "/home/eve"},
}

// FindUser returns the user with that name.
func FindUser(name string) (User, error) {
	for _, user := range Users {
		if user.Name == name {
			return user, nil
		}
	}
	return User{}, fmt.Errorf("--as %s: the laptop's users are root, dev and eve", name)
}

// RuntimeDir is the user's XDG_RUNTIME_DIR.
func (u User) RuntimeDir() string { return fmt.Sprintf("/run/user/%d", u.UID) }

func furnishLaptop(paths layout.Paths, config *layout.Config) error {
	if err := writeAccounts(); err != nil {
		return err
	}
	for _, user := range Users {
		if err := makeHome(paths, user); err != nil {
			return err
		}
	}
	if err := lookUpByFilesAndDNS(); err != nil {
		return err
	}
	return bindResolvConf(paths, config)
}

// writeAccounts adds the users to the laptop's copy of the account files, in place
// of whoever has their names or numbers on the machine.
func writeAccounts() error {
	var passwd, group, shadow, sudoers strings.Builder
	for _, user := range Users[1:] {
		fmt.Fprintf(&passwd, "%s:x:%d:%d:%s:%s:/bin/bash\n", user.Name, user.UID, user.UID, user.Name, user.Home)
		fmt.Fprintf(&group, "%s:x:%d:\n", user.Name, user.UID)
		fmt.Fprintf(&shadow, "%s:*:19000:0:99999:7:::\n", user.Name)
		if user.Sudo {
			fmt.Fprintf(&sudoers, "%s ALL=(ALL:ALL) NOPASSWD: ALL\n", user.Name)
		}
	}
	for path, lines := range map[string]string{
		"/etc/passwd": passwd.String(), "/etc/group": group.String(), "/etc/shadow": shadow.String(),
	} {
		if err := appendAccounts(path, lines); err != nil {
			return err
		}
	}
	// Only the laptop's own rules count, whatever the machine allows whom.
	if err := os.RemoveAll("/etc/sudoers.d"); err != nil {
		return err
	}
	if err := os.Mkdir("/etc/sudoers.d", 0o750); err != nil {
		return err
	}
	return os.WriteFile("/etc/sudoers.d/kdev-cluster", []byte(sudoers.String()), 0o440)
}

func appendAccounts(path, lines string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var kept strings.Builder
	for line := range strings.Lines(string(content)) {
		if !namesOneOfUs(line) {
			kept.WriteString(line)
		}
	}
	return os.WriteFile(path, []byte(kept.String()+lines), 0o644)
}

func namesOneOfUs(line string) bool {
	fields := strings.Split(line, ":")
	for _, user := range Users[1:] {
		if fields[0] == user.Name || len(fields) > 2 && fields[1] == "x" && fields[2] == fmt.Sprint(user.UID) {
			return true
		}
	}
	return false
}

func makeHome(paths layout.Paths, user User) error {
	kube := filepath.Join(user.Home, ".kube")
	for _, dir := range []string{user.Home, kube, user.RuntimeDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.Chown(dir, user.UID, user.UID); err != nil {
			return err
		}
	}
	if err := os.Chmod(user.RuntimeDir(), 0o700); err != nil {
		return err
	}
	if !user.Kubeconfig {
		return nil
	}
	content, err := os.ReadFile(paths.Kubeconfig("admin"))
	if err != nil {
		return err
	}
	file := filepath.Join(kube, "config")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	return os.Chown(file, user.UID, user.UID)
}

func lookUpByFilesAndDNS() error {
	const path = "/etc/nsswitch.conf"
	content, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	var changed strings.Builder
	for line := range strings.Lines(string(content)) {
		if !strings.HasPrefix(strings.TrimSpace(line), "hosts:") {
			changed.WriteString(line)
		}
	}
	changed.WriteString("hosts: files dns\n")
	return writeFiles(map[string]string{path: changed.String()})
}

// bindResolvConf mounts the resolver's configuration over a file of the same
// content, as container runtimes do: it can be written but not renamed over. A test
// that wants a plain file gets it with `lap umount /etc/resolv.conf`.
func bindResolvConf(paths layout.Paths, config *layout.Config) error {
	content := fmt.Sprintf("nameserver %s\nsearch %s\noptions timeout:2 attempts:2\n",
		config.OutsideResolver(), layout.SearchDomain)
	source := paths.In("laptop", "resolv.conf")
	if err := os.WriteFile(source, []byte(content), 0o644); err != nil {
		return err
	}
	if err := writeFiles(map[string]string{"/etc/resolv.conf": content}); err != nil {
		return err
	}
	return unix.Mount(source, "/etc/resolv.conf", "", unix.MS_BIND, "")
}
