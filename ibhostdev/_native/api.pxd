# SPDX-License-Identifier: Apache-2.0
"""The engine's public header, for Cython; what it means is told there."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "ibhostdev/engine.h" nogil:
    ctypedef bint c_bool "bool"

    enum:
        IBH_NAME
        IBH_GUID_TEXT
        IBH_PCI_TEXT
        IBH_PKEY

    const uint64_t IBH_GUID_IDLE

    struct ibh_pci:
        uint32_t domain
        uint16_t rid

    int ibh_parse_pci(const char *text, size_t len, ibh_pci *pci)
    int ibh_read_pci(const char *text, size_t len, ibh_pci *pci)
    void ibh_format_pci(ibh_pci pci, char *text)
    int ibh_hex_digit(char c)
    int ibh_parse_octets(const char *text, size_t len, int count,
                         uint64_t *value)
    uint64_t ibh_guid_from_mac(uint64_t mac)
    void ibh_format_guid(uint64_t guid, char *text)

    # -- errors
    enum ibh_kind:
        IBH_COMMAND_FAILED
        IBH_INVALID_INPUT
        IBH_DEVICE_NOT_FOUND
        IBH_WRONG_NETWORK
        IBH_GUID_CONFLICT
        IBH_DEVICE_IN_USE
        IBH_NO_MECHANISM
        IBH_ACCESS_DENIED
        IBH_NOT_VERIFIED
        IBH_TIMED_OUT
        IBH_REBIND_FAILED
        IBH_ROLLED_BACK
        IBH_ROLLBACK_FAILED
        IBH_NOT_RUNNING
        IBH_OTHER

    struct ibh_error:
        ibh_kind kind
        int number
        const char *message
        const char *device
        const char *attribute
        const char *cure

    ibh_error *ibh_error_new(ibh_kind kind, const char *message,
                             const char *device, const char *attribute,
                             int number, const char *cure)
    void ibh_error_free(ibh_error *error)

    # -- states
    enum ibh_policy:
        IBH_FOLLOW
        IBH_UP
        IBH_DOWN

    enum:
        IBH_HAVE_NODE
        IBH_HAVE_PORT
        IBH_HAVE_POLICY
        IBH_HAVE_PKEYS
        IBH_HAVE_PKEY

    struct ibh_state:
        uint64_t node
        uint64_t port
        uint16_t pkey
        uint8_t have
        uint8_t policy
        bint pending
        char pkeys[2][8]

    # -- what is there
    enum ibh_family:
        IBH_MLX5
        IBH_MLX5_OFED
        IBH_MLX4

    enum ibh_mechanism:
        IBH_FOREIGN
        IBH_MECHANISMS
        IBH_NO_CHOICE

    const char *ibh_mechanism_name(ibh_mechanism mechanism)

    enum:
        IBH_MAX_PORTS
        IBH_MAX_NETDEVS

    struct ibh_port:
        uint64_t guid
        unsigned int number
        unsigned int sm_lid
        char state[16]

    struct ibh_netdev:
        char name[64]
        char altnames[256]
        int ifindex
        unsigned int port

    struct ibh_pf:
        ibh_pci pci
        char address[17]
        char ib_device[64]
        char driver[64]
        ibh_family family
        bint autoprobe
        uint64_t node_guid
        unsigned int port_count
        unsigned int netdev_count
        ibh_port ports[4]
        ibh_netdev netdevs[8]
        unsigned int numvfs
        unsigned int totalvfs
        unsigned int offset
        unsigned int stride

    struct ibh_pfs:
        size_t count
        const ibh_pf **pfs
        size_t left_out_count
        const ibh_error **left_out

    struct ibh_vf:
        unsigned int index
        ibh_pci pci
        char driver[64]
        bint in_use

    # -- the host
    struct ibh_host:
        pass

    struct ibh_mapping:
        const char *network
        const char *device

    enum:
        IBH_MAPPING_TEXT

    int ibh_read_mappings(char *text, const char *source,
                          ibh_mapping *mappings, size_t *count,
                          ibh_error **error)

    struct ibh_foreign_call:
        const ibh_pf *pf
        unsigned int index
        const char *address
        uint64_t guid
        uint64_t owner
        const char *network
        bint back "back"
        bint left "left"
        ibh_error *error

    struct ibh_foreign:
        const char *name
        void *context
        int (*obstacle)(void *context, char *why, size_t size) noexcept nogil
        ibh_error *(*check)(void *context, uint64_t guid) noexcept nogil
        void (*write)(void *context, ibh_foreign_call *calls,
                      size_t count) noexcept nogil
        void (*forget)(void *context, ibh_foreign_call *calls,
                       size_t count) noexcept nogil

    struct ibh_options:
        const char *sysfs
        const char *run_dir
        uint32_t netlink_port
        uint32_t sysfs_port
        unsigned int lock_ms
        unsigned int patience_ms
        const ibh_mapping *mappings
        size_t mapping_count
        bint mappings_only_refuse
        const ibh_foreign *foreign

    int ibh_host_open(const ibh_options *options, ibh_host **host,
                      ibh_error **error)
    void ibh_host_close(ibh_host *host)
    int ibh_pfs_get "ibh_pfs"(ibh_host *host, bint anew, bint states,
                              ibh_pfs **pfs, ibh_error **error)
    void ibh_pfs_free(ibh_pfs *pfs)
    int ibh_vfs(ibh_host *host, const ibh_pf *pf, const unsigned int *indices,
                size_t count, ibh_vf *vfs, size_t *found, ibh_error **error)
    int ibh_locate(ibh_host *host, const ibh_pfs *pfs, ibh_pci pci,
                   const ibh_pf **pf, ibh_vf *vf, ibh_error **error)

    struct ibh_choice:
        ibh_mechanism mechanism
        char against[4][160]

    void ibh_choose(ibh_host *host, const ibh_pf *pf, unsigned int port,
                    ibh_mechanism forced, ibh_choice *choice)
    int ibh_survey(ibh_host *host, const ibh_pf *pf, unsigned int port,
                   ibh_mechanism forced, const unsigned int *indices,
                   size_t count, ibh_state *states, c_bool *told,
                   ibh_error **error)

    struct ibh_traffic:
        uint64_t rx_packets
        uint64_t tx_packets
        uint64_t rx_bytes
        uint64_t tx_bytes
        uint64_t rx_broadcast
        uint64_t rx_multicast
        uint64_t rx_dropped
        uint64_t tx_dropped

    int ibh_count_traffic(ibh_host *host, const ibh_pf *pf, unsigned int port,
                          ibh_traffic *traffic, c_bool *told,
                          ibh_error **error)
    int ibh_netdev_named(ibh_host *host, const char *altname, char *name)
    bint ibh_asks_all(ibh_host *host, const ibh_pf *pf,
                      unsigned int port)
    bint ibh_asks_files(ibh_host *host, const ibh_pf *pf,
                        unsigned int port)

    # -- batches
    struct ibh_vif:
        ibh_pci pci
        bint has_pci
        uint64_t port_guid
        uint64_t node_guid
        uint16_t pkey
        const char *network

    enum ibh_stage:
        IBH_WRITE
        IBH_VERIFY
        IBH_REBIND
        IBH_MAKE
        IBH_BIND

    enum ibh_link:
        IBH_LINK_RAISED

    struct ibh_how:
        bint proceed
        bint dry_run
        bint keep_bound
        bint renew
        bint set_policy
        ibh_policy policy
        ibh_link link
        bint force
        ibh_mechanism mechanism
        void *context
        int (*stop)(void *context) noexcept nogil
        void (*progress)(void *context, ibh_stage stage, size_t done,
                         size_t total) noexcept nogil

    struct ibh_result:
        ibh_pci pci
        bint has_pci
        bint has_before
        bint has_after
        bint changed
        bint verified
        ibh_mechanism mechanism
        ibh_state wanted
        ibh_state before
        ibh_state after
        ibh_error *error

    struct ibh_batch:
        size_t count
        size_t failed
        size_t moved_count
        ibh_result *results
        ibh_result *moved
        size_t warning_count
        char **warnings
        bint stopped

    int ibh_plug(ibh_host *host, const ibh_vif *vifs, size_t count,
                 const ibh_how *how, ibh_batch **batch, ibh_error **error)
    int ibh_unplug(ibh_host *host, const ibh_vif *vifs, size_t count,
                   const ibh_how *how, ibh_batch **batch, ibh_error **error)
    int ibh_restore(ibh_host *host, const ibh_vif *vifs,
                    const ibh_state *states, size_t count, ibh_batch **batch,
                    ibh_error **error)
    int ibh_adjust(ibh_host *host, const ibh_vif *vifs,
                   const ibh_state *states, size_t count, ibh_batch **batch,
                   ibh_error **error)
    void ibh_batch_free(ibh_batch *batch)

    # -- VFs made, and their drivers
    struct ibh_making:
        ibh_pci pf
        unsigned int vfs
        bint changed
        ibh_error *error

    int ibh_make(ibh_host *host, ibh_making *makings, size_t count,
                 const ibh_how *how, ibh_error **error)

    struct ibh_driving:
        ibh_pci vf
        const char *driver
        uint64_t node_guid
        bint changed
        ibh_error *error

    int ibh_drive(ibh_host *host, ibh_driving *drivings, size_t count,
                  const ibh_how *how, ibh_error **error)
